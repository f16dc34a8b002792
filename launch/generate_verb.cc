#include "launch/generate_verb.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/base/status.h"
#include "core/trainer/requests.h"
#include "launch/inference.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

// The bounds of the same keys in a config.
constexpr double kMaxRepetitionPenalty = 100;
constexpr int64_t kMaxRepeatNgram = 1024;

absl::Status CheckOptions(const GenerateOptions& options) {
  if (options.prompts.empty()) return InvalidInput("--prompt: at least one prompt is needed");
  if (options.max_tokens < 1) return InvalidInput("--max-tokens: %d is below 1", options.max_tokens);
  if (options.n < 1) return InvalidInput("--n: %d is below 1", options.n);
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    return InvalidInput("--temperature: %g is not a number of at least 0", options.temperature);
  }
  if (!(options.top_p > 0 && options.top_p <= 1))
    return InvalidInput("--top-p: %g is outside (0, 1]", options.top_p);
  if (options.top_k < 0) return InvalidInput("--top-k: %d is below 0", options.top_k);
  if (!(options.repetition_penalty >= 1 && options.repetition_penalty <= kMaxRepetitionPenalty)) {
    return InvalidInput("--repetition-penalty: %g is outside [1, %g]; 1 is off", options.repetition_penalty,
                        kMaxRepetitionPenalty);
  }
  if (options.no_repeat_ngram < 0 || options.no_repeat_ngram > kMaxRepeatNgram) {
    return InvalidInput("--no-repeat-ngram: %d is outside [0, %d]; 0 is off", options.no_repeat_ngram,
                        kMaxRepeatNgram);
  }
  return absl::OkStatus();
}

// `joint` stands between prompt and answer: a vocabulary of words leaves the space between them out.
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
  for (const std::string& prompt : options.prompts) {
    inference.generation_tokens =
        std::max(inference.generation_tokens, GenerationTokens(prompt, options.max_tokens));
  }
  TANREN_ASSIGN_OR_RETURN(const InferenceModel model, LoadForInference(runtime, inference));
  std::vector<GenerationRequest> requests;
  for (size_t p = 0; p < options.prompts.size(); ++p) {
    for (int64_t sample = 0; sample < options.n; ++sample) {
      kernels::SamplingParams sampling;
      sampling.temperature = static_cast<float>(options.temperature);
      sampling.top_k = static_cast<int32_t>(options.top_k);
      sampling.top_p = static_cast<float>(options.top_p);
      sampling.seed = options.seed;
      sampling.stream_id = p * options.n + sample;
      absl::StatusOr<GenerationRequest> request =
          MakeRequest(*model.tokenizer, model.engine->options().generation_tokens, options.prompts[p],
                      options.max_tokens, sampling);
      if (!request.ok()) return At(absl::StrCat("prompt ", p + 1), request.status());
      request->repetition.penalty = static_cast<float>(options.repetition_penalty);
      request->repetition.no_repeat_ngram = static_cast<int32_t>(options.no_repeat_ngram);
      requests.push_back(*std::move(request));
    }
  }
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results,
                          model.engine->Generate("policy", requests));
  if (runtime.world().rank() != 0) return absl::OkStatus();
  const char* joint = model.tokenizer->kind() == "whitespace" ? " " : "";
  for (size_t i = 0; i < results.size(); ++i) {
    TANREN_ASSIGN_OR_RETURN(const std::string answer, AnswerText(*model.tokenizer, results[i]));
    Print(options, options.prompts[i / options.n], static_cast<int64_t>(i % options.n), joint, answer,
          results[i]);
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
