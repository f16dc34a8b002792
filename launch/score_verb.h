// tanren score: what a checkpoint thinks of given answers, without generating any.
#ifndef TANREN_LAUNCH_SCORE_VERB_H_
#define TANREN_LAUNCH_SCORE_VERB_H_

#include <string>
#include <vector>

namespace tanren {

struct ScoreOptions {
  std::string checkpoint;              // a step directory or a run directory; also of a reward model
  std::vector<std::string> overrides;  // key=value on the checkpoint's config
  std::vector<std::string> prompts;    // --prompt: one, with --response
  std::vector<std::string> responses;  // --response: its answers
  std::string examples;                // --examples: or a JSONL file of prompts with answers
  std::string format = "by_content";   // --format of the examples
  std::string reward;                  // --reward: checkpoint of a reward model that scores them too
  bool raw = false;                    // --raw: no chat template and no end of turn, as after stage pretrain
  bool json = false;                   // one JSON object per prompt
  bool skip_long = false;              // --skip-long: a prompt with an answer beyond the context is left out
};

// Prints of every answer the summed and the mean log-probability of its tokens, the end of the turn included,
// and a reward model's score. Where the examples rank their answers it also prints how many of the ranked
// pairs are in that order, and of how many prompts a best answer is first: accuracy over choices. A
// prompt that is left out has a line that says why, and is counted. Alone or as one rank of a job; rank 0
// prints. Exit code 0 or 2.
int Score(const ScoreOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_SCORE_VERB_H_
