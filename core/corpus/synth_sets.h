// Which problems a synthetic curriculum trains on, practises on and is measured on.
#ifndef TANREN_CORE_CORPUS_SYNTH_SETS_H_
#define TANREN_CORE_CORPUS_SYNTH_SETS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/corpus/synth_problems.h"
#include "core/corpus/synth_recall.h"

namespace tanren {

struct SynthOptions {
  std::string out;  // a directory
  uint64_t seed = 1;
  int digits = 2;  // 1 to 7: the longest operand of a usual problem; harder ones may have one more
  // Records of each file, at least 1.
  int64_t problems = 20000;  // train.jsonl
  int64_t pretrain = 30000;  // pretrain.jsonl
  int64_t sft = 8000;        // sft.jsonl and sft_answers.jsonl
  int64_t wordings = 2000;   // wordings.jsonl
  int64_t prompts = 4000;    // prompts.jsonl
  int64_t held_out = 500;    // heldout.jsonl, a fifth of it harder; heldout_wordings.jsonl has half as many
  int64_t recall = 0;     // of each recall*.jsonl (synth.h), of texts four times as many; 0: there are none
  int recall_people = 1;  // 1 to 3: most people of one of its questions
  double harder_prompts = 0.25;  // share of prompts.jsonl, 0 to 1
  double longer_sft = 0.02;      // share of sft.jsonl that has longer operands than the rest, 0 to 1
  // Sentence patterns of each operation that no training file shows, 0 to 7; of recall's four times as many.
  int held_out_wordings = 2;
  bool force = false;  // replace another synthetic corpus at `out`
};

// Harder: two operations, or an operand with one digit more than usual. Fine-tuning has many of the first and
// few of the second (longer_sft); pre-training texts work out both.
struct SynthProblem {
  Problem problem;
  bool harder = false;
};

struct WordingProblem {
  Problem problem;
  std::vector<std::string> seen;    // right sentences of the patterns that training has
  std::vector<std::string> unseen;  // held out only: of the others
  std::vector<std::string> wrong;   // held out only: all of them with another result
};

struct SynthSets {
  std::vector<SynthProblem> train;
  std::vector<std::string> pretrain;
  std::vector<SynthProblem> sft;
  std::vector<WordingProblem> wordings;
  std::vector<SynthProblem> prompts;
  std::vector<SynthProblem> held_out;
  std::vector<WordingProblem> held_out_wordings;
  RecallSets recall;
};

// Deterministic in the options on every platform; each set depends on the seed, the digits and its own
// options only. No canonical key (synth_problems.h) is in two of {train, pretrain, sft, wordings}, {prompts}
// and {held_out, held_out_wordings}: a key's hash decides its side. Nor is a part of a training problem with
// two operations a problem of another side, since its steps tell the result. Questions of one held-out set
// are distinct; elsewhere they may repeat where few exist.
absl::StatusOr<SynthSets> MakeSynthSets(const SynthOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTH_SETS_H_
