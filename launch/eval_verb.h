// tanren eval CHECKPOINT --cases FILE: a suite of one test, from the command line.
#ifndef TANREN_LAUNCH_EVAL_VERB_H_
#define TANREN_LAUNCH_EVAL_VERB_H_

#include <cstdint>
#include <string>
#include <vector>

namespace tanren {

struct EvalOptions {
  std::string checkpoint;              // a step directory or a run directory
  std::vector<std::string> overrides;  // key=value on the checkpoint's config
  std::string cases;  // JSONL; every line an object with the fields that `prompt` names and `answer`
  // {field} stands for the case's field. Empty: for a model of stage pretrain "Question:
  // {question}\nSteps:\n", for others the case's `prompt`, or else `question`, as a user's message in the
  // chat template of the checkpoint.
  std::string prompt;
  std::string marker = "####";  // the answer is what follows it, up to the line's end
  int64_t limit = 0;            // first cases only; 0: all
  int64_t max_tokens = 128;
  int64_t slots = 32;
  int64_t samples = 0;     // sampled answers to each case beside the greedy one: majority, pass@k, best of n
  double temperature = 1;  // of the samples
  uint64_t seed = 1;
  std::string reward;     // checkpoint of a reward model, for best of n and the weighted vote
  std::string reference;  // checkpoint of a model from which the samples' KL divergence is measured
  std::string out;        // per-case log (JSONL); empty: none
  std::string summary;    // figures as a JSON object; empty: none
};

// Greedy answers and, with samples, votes over them. Prints accuracy, in all and by the cases' `difficulty`
// where they have one. Exit code 0 or 2.
int Eval(const EvalOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_EVAL_VERB_H_
