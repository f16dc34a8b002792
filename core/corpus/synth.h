// A curriculum out of nothing, `tanren data synth`: generated arithmetic with worked steps for pre-training,
// SFT, reward models, preference learning and RL.
#ifndef TANREN_CORE_CORPUS_SYNTH_H_
#define TANREN_CORE_CORPUS_SYNTH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/corpus/synth_sets.h"

namespace tanren {

struct SynthFile {
  std::string path;
  int64_t records = 0;
  const char* use = "";  // in a few words
};

struct SynthSummary {
  bool up_to_date = false;
  std::vector<SynthFile> files;
  int64_t harder_prompts = 0;
  int64_t harder_held_out = 0;
  std::string example;  // the first training text
};

// Writes into `out`, which appears complete or not at all; does nothing when it holds just this:
//     pretrain.jsonl          text
//     train.jsonl             text, question, answer, kind, difficulty
//     sft.jsonl               prompt, completion, answer, kind, difficulty
//     sft_answers.jsonl       the same prompts, completions without steps
//     wordings.jsonl          prompt, completions, answer, kind
//     prompts.jsonl           prompt, answer, kind, difficulty
//     heldout.jsonl           prompt and the fields of train.jsonl
//     heldout_wordings.jsonl  prompt, answer, kind, seen, unseen, wrong (as in WordingProblem)
// and, with options.recall, who has how many, to be said in a sentence (synth_recall.h):
//     recall_pretrain.jsonl   text
//     recall.jsonl            prompt, completions, answer, kind, difficulty
//     recall_rankings.jsonl   prompt, responses, ranking, errors, answer, kind, difficulty
//     recall_prompts.jsonl    prompt, answer, kind, difficulty
//     heldout_recall.jsonl    prompt, answer, kind, difficulty, seen, unseen, wrong, errors (as in
//     RecallCase)
// where answer is a regular expression of all right sentences and difficulty the number of people, and always
//     synth.json              the options and the SHA-256 of each file
absl::StatusOr<SynthSummary> WriteSynthCorpus(const SynthOptions& options);

}  // namespace tanren

#endif  // TANREN_CORE_CORPUS_SYNTH_H_
