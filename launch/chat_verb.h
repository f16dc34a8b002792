// tanren chat: a conversation with a checkpoint.
#ifndef TANREN_LAUNCH_CHAT_VERB_H_
#define TANREN_LAUNCH_CHAT_VERB_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/sampling_options.h"

namespace tanren {

struct ChatOptions {
  std::string checkpoint;              // a step directory or a run directory
  std::vector<std::string> overrides;  // key=value on the checkpoint's config
  std::optional<std::string> system;   // without: chat.system of the config
  SamplingOptions sampling;            // max_tokens: of an answer
  int64_t context_tokens = 0;          // planned for a conversation; 0: the model's context, at most 8192
};

// Reads messages from standard input, a line each, and answers as the tokens come; lines that begin with "/"
// are commands. Alone or as the ranks of a job, of which rank 0 reads and prints. The same input and seed
// give the same conversation. Exit code 0 at the end of the input, 2 for what cannot be loaded.
int Chat(const ChatOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_CHAT_VERB_H_
