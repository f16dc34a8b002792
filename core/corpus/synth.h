// A task corpus out of nothing: generated arithmetic with worked steps, `tanren data synth`.
#ifndef TANREN_CORE_CORPUS_SYNTH_H_
#define TANREN_CORE_CORPUS_SYNTH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/corpus/synth_problems.h"

namespace tanren {

struct SynthOptions {
  std::string out;  // a directory
  uint64_t seed = 1;
  int64_t problems = 20000;  // of the training file
  int64_t held_out = 500;    // of the held-out file, a fifth of them harder
  int digits = 2;      // 1 to 7: the longest operand of a training problem; harder ones have one digit more
  bool force = false;  // replace another synthetic corpus at `out`
};

struct SynthProblem {
  Problem problem;
  bool harder = false;
};

struct SynthSets {
  std::vector<SynthProblem> train;
  std::vector<SynthProblem> held_out;
};

// Deterministic in (seed, problems, held_out, digits) on every platform. No canonical key (synth_problems.h)
// is in both sets: a key's hash decides its side, and harder problems have an operand that no training
// problem has. Held-out questions are distinct; training questions may repeat.
absl::StatusOr<SynthSets> MakeSynthSets(const SynthOptions& options);

struct SynthSummary {
  bool up_to_date = false;
  std::string train_path;
  std::string held_out_path;
  int64_t train_problems = 0;
  int64_t held_out_problems = 0;
  int64_t harder_problems = 0;
  std::string example;  // the first training text
};

// Writes train.jsonl and heldout.jsonl (text, question, answer, kind, difficulty) and synth.json into `out`,
// which appears complete or not at all. Does nothing when it holds just this.
absl::StatusOr<SynthSummary> WriteSynthCorpus(const SynthOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTH_H_
