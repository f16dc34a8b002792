#include "launch/score_verb.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/chat/chat_template.h"
#include "core/config/text.h"
#include "core/examples/read_examples.h"
#include "core/trainer/requests.h"
#include "launch/inference.h"
#include "nlohmann/json.hpp"
#include "stages/common/example_units.h"
#include "stages/rl/rollout.h"
#include "stages/rl/rollout_scores.h"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

absl::StatusOr<std::vector<Example>> ReadAll(const ScoreOptions& options) {
  if (options.examples.empty()) {
    if (options.prompts.size() != 1 || options.responses.empty()) {
      return InvalidInput(
          "give one --prompt with its answers (--response, several times), or a file of them (--examples)");
    }
    Example example;
    example.format = ExampleFormat::kReferences;
    example.prompt = {{MessageRole::kUser, options.prompts[0], true}};
    example.responses = options.responses;
    example.source = "--response";
    return std::vector<Example>{std::move(example)};
  }
  if (!options.prompts.empty() || !options.responses.empty()) {
    return InvalidInput(
        "--examples: the file has its own prompts and answers; leave --prompt and --response");
  }
  ExampleOptions reading;
  const absl::StatusOr<std::optional<ExampleFormat>> format = ExampleFormatByName(options.format);
  if (!format.ok()) return At("--format", format.status());
  reading.format = *format;
  reading.max_damaged_fraction = 0;  // a line of input is a line of output
  ExampleReport report;
  absl::StatusOr<std::vector<Example>> examples = ReadExamples(options.examples, reading, &report);
  if (!examples.ok()) return At("--examples", examples.status());
  for (const Example& example : *examples) {
    if (example.prompt.empty() || example.responses.empty()) {
      return InvalidInput("%s: a record of format %s has no %s", example.source, NameOf(example.format),
                          example.prompt.empty() ? "prompt" : "answer to score");
    }
  }
  return examples;
}

Json PromptJson(const Example& example) {
  if (example.prompt.size() == 1 && example.prompt[0].role == MessageRole::kUser)
    return example.prompt[0].content;
  Json messages = Json::array();
  for (const Message& message : example.prompt) {
    messages.push_back({{"role", NameOf(message.role)}, {"content", message.content}});
  }
  return messages;
}

// Pairs of differently ranked answers, and those of them that `scores` puts in the same order; prompts, and
// those of them of which a best answer scores higher than all that are not.
struct OrderCount {
  int64_t pairs = 0;
  int64_t agreeing = 0;
  int64_t prompts = 0;
  int64_t best_first = 0;

  void Add(const std::vector<int32_t>& ranks, const std::vector<double>& scores) {
    const int32_t best_rank = *std::min_element(ranks.begin(), ranks.end());
    double best = -HUGE_VAL, others = -HUGE_VAL;
    for (size_t i = 0; i < ranks.size(); ++i) {
      double& side = ranks[i] == best_rank ? best : others;
      side = std::max(side, scores[i]);
    }
    ++prompts;
    best_first += best > others;
    for (size_t i = 0; i < ranks.size(); ++i) {
      for (size_t j = 0; j < ranks.size(); ++j) {
        if (ranks[i] >= ranks[j]) continue;
        ++pairs;
        agreeing += scores[i] > scores[j];
      }
    }
  }
};

class Scoring {
 public:
  Scoring(const ScoreOptions& options, InferenceModel& model, std::vector<Example> examples)
      : options_(options), model_(model), examples_(std::move(examples)) {}

  absl::Status Run() {
    TANREN_RETURN_IF_ERROR(AgreeStatus(*model_.engine->mesh().world, "examples", MakeAnswers()));
    const int64_t capacity = model_.engine->options().micro_batch_tokens;
    TANREN_RETURN_IF_ERROR(rollout_.Pack(capacity));
    if (model_.engine->HasModel("policy")) {
      TANREN_ASSIGN_OR_RETURN(logp_, ScoreRollout(*model_.engine, rollout_, 1));
    }
    if (model_.engine->HasModel("reward")) {
      TANREN_ASSIGN_OR_RETURN(rewards_,
                              ScoreRewards(*model_.engine, rollout_, "reward", model_.scale.likelihood));
    }
    return absl::OkStatus();
  }

  void Print() const {
    OrderCount by_logp, by_mean_logp, by_reward;
    size_t first = 0, left_out = 0;
    for (size_t e = 0; e < examples_.size(); ++e) {
      const Example& example = examples_[e];
      if (!why_left_out_[e].empty()) {
        ++left_out;
        options_.json ? PrintLeftOut(example, why_left_out_[e])
                      : PrintTableLeftOut(example, why_left_out_[e]);
        continue;
      }
      const Columns columns = ColumnsOf(first, example.responses.size());
      first += example.responses.size();
      options_.json ? PrintJson(example, columns) : PrintTable(example, columns);
      if (example.ranks.empty()) continue;
      by_logp.Add(example.ranks, columns.logp);
      by_mean_logp.Add(example.ranks, columns.mean_logp);
      by_reward.Add(example.ranks, columns.reward);
    }
    if (left_out > 0) {
      std::fprintf(stderr, "%zu of %zu prompts were left out: an answer does not fit\n", left_out,
                   examples_.size());
    }
    if (options_.json || by_logp.pairs == 0) return;
    const auto print = [](const char* name, const OrderCount& count) {
      std::printf(
          "%lld of %lld ranked pairs are in the order of the ranking by %s; a best answer is first in %lld "
          "of %lld\n",
          static_cast<long long>(count.agreeing), static_cast<long long>(count.pairs), name,
          static_cast<long long>(count.best_first), static_cast<long long>(count.prompts));
    };
    if (!logp_.empty()) {
      print("log-probability", by_logp);
      print("log-probability per token", by_mean_logp);
    }
    if (!rewards_.empty()) print("reward", by_reward);
  }

 private:
  // Of the answers to one prompt; what was not scored is 0.
  struct Columns {
    std::vector<int64_t> tokens;
    std::vector<double> logp, mean_logp, reward, normalised;
  };

  // Prompt and answer are encoded apart, as in training and in generation.
  absl::StatusOr<RolloutAnswer> RawAnswer(const Example& example, const std::string& response) const {
    if (example.prompt.size() != 1 || example.prompt[0].role != MessageRole::kUser) {
      return InvalidInput("a conversation needs a chat template, and a base model is scored without one");
    }
    const std::string& prompt = example.prompt[0].content;
    // Its length is CheckLength's to judge, with the answer's.
    TANREN_ASSIGN_OR_RETURN(
        const GenerationRequest request,
        MakeRequest(*model_.tokenizer, std::numeric_limits<int32_t>::max(), prompt, 1, {}));
    TANREN_ASSIGN_OR_RETURN(const std::vector<int32_t> answer, model_.tokenizer->Encode(response));
    if (answer.empty()) return InvalidInput("an answer without a token has no probability");
    return MakeAnswer(request.prompt, answer, /*ended=*/false, 0);
  }

  absl::StatusOr<RolloutAnswer> ChatAnswer(const ChatTemplate& chat, const Example& example,
                                           const std::string& response) const {
    TANREN_ASSIGN_OR_RETURN(const RenderedConversation rendered,
                            RenderResponse(chat, PromptMessages(model_.config, example), response, false));
    const auto begin = std::find(rendered.trained.begin(), rendered.trained.end(), 1);
    const auto answer = rendered.ids.begin() + (begin - rendered.trained.begin());
    return MakeAnswer({rendered.ids.begin(), answer}, {answer, rendered.ids.end()}, /*ended=*/true, 0);
  }

  absl::Status CheckLength(const RolloutAnswer& answer) const {
    const int64_t context = model_.config.model().context_length();
    const int64_t capacity = model_.engine->options().micro_batch_tokens;
    if (answer.unit.tokens() <= std::min(context, capacity)) return absl::OkStatus();
    return InvalidInput(
        "%d tokens with the prompt, more than %s (%d)%s", answer.unit.tokens(),
        context <= capacity ? "model.context_length" : "batch.micro_batch_tokens",
        std::min(context, capacity),
        options_.skip_long || options_.examples.empty() ? "" : "; --skip-long leaves such prompts out");
  }

  absl::Status MakeAnswers() {
    const bool raw = options_.raw || model_.config.stage() == "pretrain";
    std::optional<ChatTemplate> chat;
    if (!raw) {
      TANREN_ASSIGN_OR_RETURN(chat, ChatTemplateFromConfig(model_.config, *model_.tokenizer));
    }
    for (const Example& example : examples_) {
      TANREN_ASSIGN_OR_RETURN(why_left_out_.emplace_back(), MakeAnswersOf(example, raw, chat));
    }
    if (rollout_.answers.empty()) {
      return InvalidInput("nothing is left to score: the answers to each of %d prompts are too long, %s",
                          examples_.size(), why_left_out_[0]);
    }
    return absl::OkStatus();
  }

  // Why the example is left out, or "".
  absl::StatusOr<std::string> MakeAnswersOf(const Example& example, bool raw,
                                            const std::optional<ChatTemplate>& chat) {
    const size_t first = rollout_.answers.size();
    std::string why;
    for (size_t r = 0; r < example.responses.size(); ++r) {
      const std::string place = absl::StrCat("answer ", r + 1);
      absl::StatusOr<RolloutAnswer> answer =
          raw ? RawAnswer(example, example.responses[r]) : ChatAnswer(*chat, example, example.responses[r]);
      if (!answer.ok()) return At(absl::StrCat(example.source, ": ", place), answer.status());
      if (absl::Status fits = CheckLength(*answer); !fits.ok()) {
        if (!options_.skip_long) return At(absl::StrCat(example.source, ": ", place), fits);
        if (why.empty()) why = absl::StrCat(place, ": ", std::string(fits.message()));
      }
      rollout_.answers.push_back(*std::move(answer));
    }
    if (!why.empty()) rollout_.answers.resize(first);
    return why;
  }

  Columns ColumnsOf(size_t first, size_t count) const {
    Columns columns;
    for (size_t i = first; i < first + count; ++i) {
      double logp = 0;
      if (!logp_.empty()) {
        for (const float token : logp_[i].old_logp) logp += token;
      }
      const double reward = rewards_.empty() ? 0 : rewards_[i];
      columns.tokens.push_back(rollout_.answers[i].trained_tokens());
      columns.logp.push_back(logp);
      columns.mean_logp.push_back(logp / static_cast<double>(columns.tokens.back()));
      columns.reward.push_back(reward);
      columns.normalised.push_back(model_.scale.normalizer.Normalised(reward));
    }
    return columns;
  }

  void PrintJson(const Example& example, const Columns& columns) const {
    Json line = {
        {"prompt", PromptJson(example)}, {"responses", example.responses}, {"tokens", columns.tokens}};
    if (!logp_.empty()) {
      line["logp"] = columns.logp;
      line["mean_logp"] = columns.mean_logp;
    }
    if (!rewards_.empty()) {
      line["reward"] = columns.reward;
      line["normalised_reward"] = columns.normalised;
    }
    if (!example.ranks.empty()) line["ranking"] = example.ranks;
    PrintLine(line);
  }

  static void PrintLine(const Json& line) {
    std::printf("%s\n", line.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
  }

  static void PrintLeftOut(const Example& example, const std::string& why) {
    PrintLine({{"prompt", PromptJson(example)}, {"responses", example.responses}, {"left_out", why}});
  }

  static void PrintTableLeftOut(const Example& example, const std::string& why) {
    std::printf("%s\n  left out: %s\n", config::Printable(example.prompt.back().content).c_str(),
                why.c_str());
  }

  void PrintTable(const Example& example, const Columns& columns) const {
    std::printf("%s\n", config::Printable(example.prompt.back().content).c_str());
    if (!logp_.empty()) std::printf("  %10s %10s %11s", "logp", "per token", "probability");
    if (!rewards_.empty()) std::printf("  %10s %10s", "reward", "normalised");
    std::printf("  %6s  answer\n", "tokens");
    for (size_t r = 0; r < example.responses.size(); ++r) {
      if (!logp_.empty()) {
        std::printf("  %10.4f %10.4f %11.3g", columns.logp[r], columns.mean_logp[r],
                    std::exp(columns.logp[r]));
      }
      if (!rewards_.empty()) std::printf("  %10.4f %10.4f", columns.reward[r], columns.normalised[r]);
      std::printf("  %6lld  %s\n", static_cast<long long>(columns.tokens[r]),
                  config::Printable(example.responses[r]).c_str());
    }
  }

  const ScoreOptions& options_;
  InferenceModel& model_;
  std::vector<Example> examples_;
  std::vector<std::string> why_left_out_;  // of each example; "": it is scored
  Rollout rollout_;                        // the answers of all that are scored, in order
  std::vector<AnswerScores> logp_;         // empty for a reward model's checkpoint
  std::vector<float> rewards_;             // empty without a reward model
};

absl::Status RunScore(Runtime& runtime, const ScoreOptions& options) {
  absl::StatusOr<std::vector<Example>> examples = ReadAll(options);
  TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "examples", examples.status()));
  InferenceOptions inference;
  inference.checkpoint = options.checkpoint;
  inference.overrides = options.overrides;
  inference.reward = options.reward;
  inference.generates = false;
  TANREN_ASSIGN_OR_RETURN(InferenceModel model, LoadForInference(runtime, inference));
  Scoring scoring(options, model, *std::move(examples));
  TANREN_RETURN_IF_ERROR(scoring.Run());
  if (runtime.world().rank() == 0) scoring.Print();
  std::fflush(stdout);
  return absl::OkStatus();
}

}  // namespace

int Score(const ScoreOptions& options) {
  const absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  return StatusExit(RunScore(**runtime, options));
}

}  // namespace tanren
