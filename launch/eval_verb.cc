#include "launch/eval_verb.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <optional>
#include <utility>

#include "core/base/status.h"
#include "core/chat/chat_template.h"
#include "core/reward/checker.h"
#include "core/reward/sample_metrics.h"
#include "core/trainer/requests.h"
#include "launch/inference.h"
#include "nlohmann/json.hpp"
#include "stages/common/example_units.h"
#include "stages/rl/rollout.h"
#include "stages/rl/rollout_scores.h"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

struct Case {
  Json fields;
  std::string prompt;
  std::string answer;
  std::string difficulty;
};

absl::StatusOr<std::string> TextField(const Json& fields, const std::string& name) {
  const auto found = fields.find(name);
  if (found == fields.end()) return InvalidInput("there is no field \"%s\"", name);
  if (found->is_string()) return found->get<std::string>();
  if (found->is_number()) return found->dump();
  return InvalidInput("field \"%s\" is neither a string nor a number", name);
}

absl::StatusOr<std::string> FillPrompt(const std::string& pattern, const Json& fields) {
  std::string prompt;
  for (size_t at = 0; at < pattern.size();) {
    const size_t end = pattern[at] == '{' ? pattern.find('}', at) : std::string::npos;
    if (end == std::string::npos) {
      prompt += pattern[at++];
      continue;
    }
    TANREN_ASSIGN_OR_RETURN(const std::string text, TextField(fields, pattern.substr(at + 1, end - at - 1)));
    prompt += text;
    at = end + 1;
  }
  return prompt;
}

absl::StatusOr<Case> ParseCase(const std::string& line) {
  Case out;
  out.fields = Json::parse(line, nullptr, false);
  if (!out.fields.is_object()) return InvalidInput("not a JSON object");
  TANREN_ASSIGN_OR_RETURN(out.answer, TextField(out.fields, "answer"));
  if (out.fields.contains("difficulty")) {
    TANREN_ASSIGN_OR_RETURN(out.difficulty, TextField(out.fields, "difficulty"));
  }
  return out;
}

absl::StatusOr<std::vector<Case>> ReadCases(const EvalOptions& options) {
  std::ifstream in(options.cases);
  if (!in) return absl::NotFoundError(absl::StrCat("--cases: cannot read ", options.cases));
  std::vector<Case> cases;
  std::string line;
  for (int64_t number = 1; std::getline(in, line); ++number) {
    if (line.empty()) continue;
    if (options.limit > 0 && static_cast<int64_t>(cases.size()) == options.limit) break;
    absl::StatusOr<Case> parsed = ParseCase(line);
    if (!parsed.ok()) return At(absl::StrCat(options.cases, ":", number), parsed.status());
    cases.push_back(*std::move(parsed));
  }
  if (cases.empty()) return InvalidInput("--cases: %s has no case", options.cases);
  return cases;
}

constexpr const char* kPretrainPrompt = "Question: {question}\nSteps:\n";

// From a case to the tokens that the model goes on from: one path for greedy answers and samples.
class Prompter {
 public:
  static absl::StatusOr<Prompter> Make(const EvalOptions& options, const InferenceModel& model) {
    Prompter prompter;
    prompter.model_ = &model;
    prompter.options_ = &options;
    prompter.pattern_ = options.prompt;
    if (options.prompt.empty() && model.config.stage() == "pretrain") prompter.pattern_ = kPretrainPrompt;
    if (!prompter.pattern_.empty()) return prompter;
    TANREN_ASSIGN_OR_RETURN(ChatTemplate chat, ChatTemplateFromConfig(model.config, *model.tokenizer));
    prompter.chat_ = std::move(chat);
    return prompter;
  }

  absl::Status FillText(Case* one) const {
    if (!pattern_.empty()) {
      TANREN_ASSIGN_OR_RETURN(one->prompt, FillPrompt(pattern_, one->fields));
    } else {
      TANREN_ASSIGN_OR_RETURN(one->prompt,
                              TextField(one->fields, one->fields.contains("prompt") ? "prompt" : "question"));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<GenerationRequest> Request(const Case& one, const kernels::SamplingParams& sampling) const {
    const int64_t room = model_->engine->options().generation_tokens;
    if (!chat_.has_value()) {
      return MakeRequest(*model_->tokenizer, room, one.prompt, options_->max_tokens, sampling);
    }
    std::vector<Message> messages = {{MessageRole::kUser, one.prompt}};
    if (!model_->config.chat().system().empty()) {
      messages.insert(messages.begin(), {MessageRole::kSystem, model_->config.chat().system()});
    }
    GenerationRequest request;
    TANREN_ASSIGN_OR_RETURN(request.prompt, chat_->Render(messages, /*generation_prompt=*/true));
    const int64_t left = room - static_cast<int64_t>(request.prompt.size());
    if (left < 1) {
      return InvalidInput("a prompt of %d tokens does not fit: at most %d leave room for an answer",
                          request.prompt.size(), room - 1);
    }
    request.max_tokens = std::min(options_->max_tokens, left);
    request.sampling = sampling;
    request.stop = {chat_->end_of_turn()};
    return request;
  }

 private:
  const InferenceModel* model_ = nullptr;
  const EvalOptions* options_ = nullptr;
  std::string pattern_;
  std::optional<ChatTemplate> chat_;
};

// One answer, taken apart and checked.
struct Answered {
  std::string text;
  std::string answer;
  bool right = false;
  bool steps_valid = false;
  int64_t tokens = 0;
  double score = 0;  // the reward model's, 0 without
};

// The samples of a case with what is made of them.
struct Votes {
  bool majority = false, best = false, weighted = false;
  double pass_at_1 = 0, pass_at_n = 0, consistency = 0;
};

struct Tally {
  int64_t cases = 0;
  int64_t correct = 0, steps_valid = 0;
  double majority = 0, best = 0, weighted = 0, pass_at_1 = 0, pass_at_n = 0, consistency = 0;

  void Add(const Answered& greedy, const Votes& votes) {
    ++cases;
    correct += greedy.right;
    steps_valid += greedy.steps_valid;
    majority += votes.majority;
    best += votes.best;
    weighted += votes.weighted;
    pass_at_1 += votes.pass_at_1;
    pass_at_n += votes.pass_at_n;
    consistency += votes.consistency;
  }
  double share(double sum) const { return sum / static_cast<double>(cases); }
  double accuracy() const { return share(static_cast<double>(correct)); }
};

class Evaluation {
 public:
  Evaluation(const EvalOptions& options, InferenceModel& model, std::unique_ptr<Checker> checker)
      : options_(options), model_(model), checker_(std::move(checker)) {}

  absl::Status Run(std::vector<Case> cases) {
    cases_ = std::move(cases);
    TANREN_ASSIGN_OR_RETURN(const Prompter prompter, Prompter::Make(options_, model_));
    std::vector<GenerationRequest> requests;
    for (size_t i = 0; i < cases_.size(); ++i) {
      TANREN_RETURN_IF_ERROR(At(absl::StrCat("case ", i + 1), prompter.FillText(&cases_[i])));
      for (int64_t s = 0; s <= options_.samples; ++s) {
        kernels::SamplingParams sampling;
        sampling.temperature = s == 0 ? 0 : static_cast<float>(options_.temperature);
        sampling.seed = options_.seed;
        sampling.stream_id = static_cast<uint64_t>(static_cast<int64_t>(i) * options_.samples + s);
        absl::StatusOr<GenerationRequest> request = prompter.Request(cases_[i], sampling);
        if (!request.ok()) return At(absl::StrCat("case ", i + 1), request.status());
        requests.push_back(*std::move(request));
      }
    }
    const auto begin = std::chrono::steady_clock::now();
    TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results,
                            model_.engine->Generate("policy", requests));
    seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    for (size_t i = 0; i < results.size(); ++i) {
      TANREN_ASSIGN_OR_RETURN(Answered answered, Check(cases_[i / each()], results[i]));
      answers_.push_back(std::move(answered));
    }
    if (model_.engine->HasModel("reward")) TANREN_RETURN_IF_ERROR(Score(requests, results));
    return absl::OkStatus();
  }

  absl::Status Report() const;

 private:
  size_t each() const { return static_cast<size_t>(options_.samples) + 1; }

  absl::StatusOr<Answered> Check(const Case& one, const GenerationResult& result) {
    Answered answered;
    TANREN_ASSIGN_OR_RETURN(answered.text, AnswerText(*model_.tokenizer, result));
    const CheckResult check = checker_->Check(one.prompt, answered.text, one.answer);
    answered.answer = check.answer;
    answered.right = check.right;
    answered.steps_valid = check.right && CheckSteps(answered.text, options_.marker).valid();
    answered.tokens = static_cast<int64_t>(result.tokens.size());
    return answered;
  }

  absl::Status Score(const std::vector<GenerationRequest>& requests,
                     const std::vector<GenerationResult>& results) {
    Rollout rollout;
    for (size_t i = 0; i < results.size(); ++i) {
      rollout.answers.push_back(MakeAnswer(requests[i].prompt, results[i].tokens,
                                           results[i].finish == FinishReason::kStop,
                                           static_cast<int64_t>(i / each())));
    }
    TANREN_RETURN_IF_ERROR(rollout.Pack(model_.engine->options().micro_batch_tokens));
    TANREN_ASSIGN_OR_RETURN(const std::vector<AnswerScores> scores,
                            ScoreRollout(*model_.engine, rollout, ScoreWith::kReward, 1));
    for (size_t i = 0; i < scores.size(); ++i) {
      answers_[i].score = (scores[i].reward - model_.scores.mean()) / model_.scores.deviation();
    }
    return absl::OkStatus();
  }

  Votes Vote(size_t index) const {
    Votes votes;
    if (options_.samples == 0) return votes;
    const Answered* samples = &answers_[index * each() + 1];
    std::vector<std::string> texts;
    std::vector<double> scores, weights;
    int64_t right = 0;
    for (int64_t s = 0; s < options_.samples; ++s) {
      texts.push_back(samples[s].answer);
      scores.push_back(samples[s].score);
      weights.push_back(std::exp(samples[s].score));
      right += samples[s].right;
    }
    const auto is_right = [&](int64_t chosen) { return chosen >= 0 && samples[chosen].right; };
    votes.majority = is_right(MajorityVote(texts, {}));
    votes.best = is_right(BestOf(scores));
    votes.weighted = is_right(MajorityVote(texts, weights));
    votes.pass_at_1 = PassAtK(options_.samples, right, 1);
    votes.pass_at_n = PassAtK(options_.samples, right, options_.samples);
    votes.consistency = Consistency(texts);
    return votes;
  }

  const EvalOptions& options_;
  InferenceModel& model_;
  std::unique_ptr<Checker> checker_;
  std::vector<Case> cases_;
  std::vector<Answered> answers_;  // of each case the greedy one, then the samples
  double seconds_ = 0;
};

Json FiguresOf(const Tally& tally, const EvalOptions& options) {
  Json figures = {{"cases", tally.cases},
                  {"correct", tally.correct},
                  {"accuracy", tally.accuracy()},
                  {"steps_valid", tally.share(static_cast<double>(tally.steps_valid))}};
  if (options.samples == 0) return figures;
  figures["majority"] = tally.share(tally.majority);
  figures["pass_at_1"] = tally.share(tally.pass_at_1);
  figures["pass_at_n"] = tally.share(tally.pass_at_n);
  figures["consistency"] = tally.share(tally.consistency);
  if (options.reward.empty()) return figures;
  figures["best_of_n"] = tally.share(tally.best);
  figures["weighted_vote"] = tally.share(tally.weighted);
  return figures;
}

void PrintTally(const std::string& name, const Tally& tally, const EvalOptions& options) {
  std::printf("  %-12s %6lld cases, accuracy %.4f, worked steps valid %.4f", name.c_str(),
              static_cast<long long>(tally.cases), tally.accuracy(),
              tally.share(static_cast<double>(tally.steps_valid)));
  if (options.samples > 0) {
    std::printf(", majority of %lld %.4f, pass@1 %.4f, pass@%lld %.4f",
                static_cast<long long>(options.samples), tally.share(tally.majority),
                tally.share(tally.pass_at_1), static_cast<long long>(options.samples),
                tally.share(tally.pass_at_n));
    if (!options.reward.empty()) std::printf(", best by reward model %.4f", tally.share(tally.best));
  }
  std::printf("\n");
}

absl::Status Evaluation::Report() const {
  std::ofstream log;
  if (!options_.out.empty()) log.open(options_.out, std::ios::trunc);
  Tally all;
  std::map<std::string, Tally> by_difficulty;
  int64_t tokens = 0;
  for (size_t i = 0; i < cases_.size(); ++i) {
    const Answered& greedy = answers_[i * each()];
    const Votes votes = Vote(i);
    for (Tally* tally : {&all, &by_difficulty[cases_[i].difficulty]}) tally->Add(greedy, votes);
    Json line = {{"prompt", cases_[i].prompt},
                 {"completion", greedy.text},
                 {"extracted", greedy.answer},
                 {"answer", cases_[i].answer},
                 {"correct", greedy.right}};
    if (cases_[i].fields.contains("kind")) line["kind"] = cases_[i].fields["kind"];
    line["difficulty"] = cases_[i].difficulty;
    for (size_t s = 0; s < each(); ++s) {
      const Answered& answered = answers_[i * each() + s];
      tokens += answered.tokens;
      if (s == 0) continue;
      line["responses"].push_back(answered.text);
      line["right"].push_back(answered.right);
      if (!options_.reward.empty()) line["scores"].push_back(answered.score);
    }
    if (log.is_open()) log << line.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
  }
  if (log.is_open() && !log.flush())
    return absl::InternalError(absl::StrCat("--out: cannot write ", options_.out));
  std::printf("%lld cases, %lld right: accuracy %.4f (%lld tokens, %.1f s)\n",
              static_cast<long long>(all.cases), static_cast<long long>(all.correct), all.accuracy(),
              static_cast<long long>(tokens), seconds_);
  Json summary = FiguresOf(all, options_);
  summary["checkpoint"] = model_.path;
  summary["tokens"] = tokens;
  summary["seconds"] = seconds_;
  PrintTally("all", all, options_);
  for (const auto& [difficulty, tally] : by_difficulty) {
    if (difficulty.empty()) continue;
    PrintTally(difficulty, tally, options_);
    summary["by_difficulty"][difficulty] = tally.accuracy();
    summary["figures_by_difficulty"][difficulty] = FiguresOf(tally, options_);
  }
  std::fflush(stdout);
  if (options_.summary.empty()) return absl::OkStatus();
  std::ofstream out(options_.summary, std::ios::trunc);
  out << summary.dump(2) << "\n";
  if (!out.flush()) return absl::InternalError(absl::StrCat("--summary: cannot write ", options_.summary));
  return absl::OkStatus();
}

absl::Status CheckOptions(const EvalOptions& options) {
  if (options.max_tokens < 1) return InvalidInput("--max-tokens: %d is below 1", options.max_tokens);
  if (options.samples < 0) return InvalidInput("--samples: %d is below 0", options.samples);
  if (!(options.temperature > 0) || !std::isfinite(options.temperature)) {
    return InvalidInput("--temperature: %g is not a number above 0", options.temperature);
  }
  return absl::OkStatus();
}

absl::Status RunEval(Runtime& runtime, const EvalOptions& options) {
  absl::StatusOr<std::vector<Case>> cases = ReadCases(options);
  absl::Status ready = cases.status();
  ready.Update(CheckOptions(options));
  // What cannot be written is said before the work, not after it.
  if (ready.ok() && runtime.world().rank() == 0) {
    for (const std::string& path : {options.out, options.summary}) {
      if (!path.empty() && !std::ofstream(path, std::ios::app)) ready = InvalidInput("cannot write %s", path);
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "cases", ready));
  CheckerOptions checking;
  checking.marker = options.marker;
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<Checker> checker, MakeChecker(checking));
  InferenceOptions inference;
  inference.checkpoint = options.checkpoint;
  inference.overrides = options.overrides;
  inference.slots = options.slots;
  inference.reward = options.reward;
  // A template adds little to a case's own text.
  constexpr int64_t kTemplateTokens = 64;
  for (const Case& one : *cases) {
    inference.generation_tokens =
        std::max(inference.generation_tokens,
                 GenerationTokens(one.fields.dump(), options.max_tokens) + kTemplateTokens);
  }
  TANREN_ASSIGN_OR_RETURN(InferenceModel model, LoadForInference(runtime, inference));
  Evaluation evaluation(options, model, std::move(checker));
  TANREN_RETURN_IF_ERROR(evaluation.Run(*std::move(cases)));
  absl::Status reported;
  if (runtime.world().rank() == 0) reported = evaluation.Report();
  return AgreeStatus(runtime.world(), "report", reported);
}

}  // namespace

int Eval(const EvalOptions& options) {
  const absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  return StatusExit(RunEval(**runtime, options));
}

}  // namespace tanren
