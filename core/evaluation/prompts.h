// From questions to the tokens that a model goes on from: one path for every strategy.
#ifndef TANREN_CORE_EVALUATION_PROMPTS_H_
#define TANREN_CORE_EVALUATION_PROMPTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/chat/chat_template.h"
#include "core/evaluation/parts.h"
#include "core/proto/suite.pb.h"
#include "core/tokenizer/tokenizer.h"

namespace tanren {

struct PromptModel {
  const Tokenizer* tokenizer = nullptr;  // must outlive what is made from this
  absl::StatusOr<ChatTemplate> chat;     // an error is told when a chat is asked for
  std::string system;                    // put before conversations that have none
  bool pretrained_only = false;          // a model of stage pretrain has seen no chat
};

// An example of few_shot.
struct ShotExample {
  OrderedJson fields;
  std::vector<Message> prompt;
  std::string response;
};

class Prompter {
 public:
  // Reads the file of few_shot. InvalidArgument and NotFound name the key or the file.
  static absl::StatusOr<Prompter> Make(const config::PromptConfig& config, const PromptModel& model);

  // InvalidArgument for a field that is missing, a text that does not encode, an empty prompt and, in style
  // text, for a conversation.
  absl::StatusOr<Prompt> Render(const Question& question) const;

  // Token sequences that end an answer.
  const std::vector<std::vector<int32_t>>& stops() const { return stops_; }

 private:
  absl::StatusOr<Prompt> RenderChat(const Question& question) const;
  absl::StatusOr<Prompt> RenderPattern(const Question& question) const;
  absl::Status ReadExamples();
  // The first k examples that ask something else.
  std::vector<const ShotExample*> ExamplesFor(const Question& question) const;

  config::PromptConfig config_;
  const PromptModel* model_ = nullptr;
  std::string pattern_;  // "": a chat
  std::vector<ShotExample> examples_;
  std::vector<std::vector<int32_t>> stops_;
};

// `pattern` with each {name} replaced by the field's text.
absl::StatusOr<std::string> FillPattern(const std::string& pattern, const OrderedJson& fields);

}  // namespace tanren

#endif  // TANREN_CORE_EVALUATION_PROMPTS_H_
