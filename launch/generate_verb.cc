#include "launch/generate_verb.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/chat/chat_template.h"
#include "core/trainer/requests.h"
#include "launch/inference.h"
#include "nlohmann/json.hpp"
#include "stages/common/example_units.h"

namespace tanren {
namespace {

absl::Status CheckOptions(const GenerateOptions& options) {
  if (options.prompts.empty()) return InvalidInput("--prompt: at least one prompt is needed");
  if (options.n < 1) return InvalidInput("--n: %d is below 1", options.n);
  return CheckSampling(options.sampling);
}

// How prompts become tokens: as a user's message in the checkpoint's chat template; with --raw, and after
// pre-training, as the text itself.
class Prompter {
 public:
  static absl::StatusOr<Prompter> Make(const config::Config& config, const Tokenizer& tokenizer, bool raw) {
    Prompter prompter;
    prompter.tokenizer_ = &tokenizer;
    if (raw || config.stage() == "pretrain") return prompter;
    TANREN_ASSIGN_OR_RETURN(prompter.chat_, ChatTemplateFromConfig(config, tokenizer));
    if (!config.chat().system().empty()) {
      prompter.before_ = {{MessageRole::kSystem, config.chat().system()}};
    }
    return prompter;
  }

  // An answer is cut to what `sequence_tokens` leaves after the prompt.
  absl::StatusOr<GenerationRequest> Request(const std::string& prompt, int64_t sequence_tokens,
                                            int64_t max_tokens,
                                            const kernels::SamplingParams& sampling) const {
    if (!chat_.has_value()) return MakeRequest(*tokenizer_, sequence_tokens, prompt, max_tokens, sampling);
    std::vector<Message> messages = before_;
    messages.push_back({MessageRole::kUser, prompt});
    GenerationRequest request;
    TANREN_ASSIGN_OR_RETURN(request.prompt, chat_->Render(messages, /*generation_prompt=*/true));
    const int64_t room = sequence_tokens - static_cast<int64_t>(request.prompt.size());
    if (room < 1) {
      return InvalidInput("a prompt of %d tokens does not fit: at most %d leave room for an answer",
                          request.prompt.size(), sequence_tokens - 1);
    }
    request.max_tokens = std::min(max_tokens, room);
    request.sampling = sampling;
    request.stop = {chat_->end_of_turn()};
    return request;
  }

  // What stands between a prompt and its answer when both are shown: a vocabulary of words leaves the space
  // out.
  const char* joint() const {
    return chat_.has_value() ? "\n" : tokenizer_->kind() == "whitespace" ? " " : "";
  }

 private:
  const Tokenizer* tokenizer_ = nullptr;
  std::optional<ChatTemplate> chat_;
  std::vector<Message> before_;
};

// Tokens of the longest prompt with its answer.
absl::StatusOr<int64_t> SequenceTokens(const GenerateOptions& options, const Prompter& prompter) {
  int64_t longest = 0;
  for (size_t p = 0; p < options.prompts.size(); ++p) {
    const absl::StatusOr<GenerationRequest> request =
        prompter.Request(options.prompts[p], std::numeric_limits<int64_t>::max(), options.sampling.max_tokens,
                         kernels::SamplingParams());
    if (!request.ok()) return At(absl::StrCat("prompt ", p + 1), request.status());
    longest = std::max(longest, static_cast<int64_t>(request->prompt.size()) + request->max_tokens);
  }
  return longest;
}

void Print(const GenerateOptions& options, const std::string& prompt, int64_t sample, const char* joint,
           const std::string& answer, const GenerationResult& result) {
  if (!options.json) {
    if (options.n > 1 || options.prompts.size() > 1)
      std::printf("--- %lld\n", static_cast<long long>(sample));
    std::printf("%s%s%s\n", prompt.c_str(), joint, answer.c_str());
    return;
  }
  const nlohmann::ordered_json line = {
      {"prompt", prompt},        {"sample", sample},
      {"completion", answer},    {"finish", result.finish == FinishReason::kStop ? "stop" : "length"},
      {"tokens", result.tokens}, {"logp", result.logp}};
  std::printf("%s\n", line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
}

absl::Status RunGenerate(Runtime& runtime, const GenerateOptions& options) {
  TANREN_RETURN_IF_ERROR(CheckOptions(options));
  InferenceOptions inference;
  inference.checkpoint = options.checkpoint;
  inference.overrides = options.overrides;
  inference.plan = [&](const config::Config& config, const Tokenizer& tokenizer,
                       int64_t) -> absl::StatusOr<int64_t> {
    TANREN_ASSIGN_OR_RETURN(const Prompter prompter, Prompter::Make(config, tokenizer, options.raw));
    return SequenceTokens(options, prompter);
  };
  TANREN_ASSIGN_OR_RETURN(const InferenceModel model, LoadForInference(runtime, inference));
  TANREN_ASSIGN_OR_RETURN(const Prompter prompter,
                          Prompter::Make(model.config, *model.tokenizer, options.raw));
  std::vector<GenerationRequest> requests;
  for (size_t p = 0; p < options.prompts.size(); ++p) {
    for (int64_t sample = 0; sample < options.n; ++sample) {
      absl::StatusOr<GenerationRequest> request =
          prompter.Request(options.prompts[p], model.engine->options().generation_tokens,
                           options.sampling.max_tokens, SamplingOf(options.sampling, p * options.n + sample));
      if (!request.ok()) return At(absl::StrCat("prompt ", p + 1), request.status());
      request->repetition = RepetitionOf(options.sampling);
      requests.push_back(*std::move(request));
    }
  }
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results,
                          model.engine->Generate("policy", requests));
  if (runtime.world().rank() != 0) return absl::OkStatus();
  for (size_t i = 0; i < results.size(); ++i) {
    TANREN_ASSIGN_OR_RETURN(const std::string answer, AnswerText(*model.tokenizer, results[i]));
    Print(options, options.prompts[i / options.n], static_cast<int64_t>(i % options.n), prompter.joint(),
          answer, results[i]);
  }
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace

int Generate(const GenerateOptions& options) {
  const absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  return StatusExit(RunGenerate(**runtime, options));
}

}  // namespace tanren
