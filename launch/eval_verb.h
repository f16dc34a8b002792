// tanren eval: how many checkable questions a checkpoint answers right.
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
  std::string prompt = "Question: {question}\nSteps:\n";  // {field} stands for the case's field
  std::string marker = "####";  // the answer is what follows it, up to the line's end
  int64_t limit = 0;            // first cases only; 0: all
  int64_t max_tokens = 128;
  int64_t slots = 32;
  std::string out;      // per-case log (JSONL); empty: none
  std::string summary;  // figures as a JSON object; empty: none
};

// Greedy answers. Prints accuracy, in all and by the cases' `difficulty` where they have one. Exit code 0
// or 2.
int Eval(const EvalOptions& options);

// What follows the last `marker`, without surrounding white space; empty when there is none.
std::string ExtractAnswer(const std::string& text, const std::string& marker);

}  // namespace tanren

#endif  // TANREN_LAUNCH_EVAL_VERB_H_
