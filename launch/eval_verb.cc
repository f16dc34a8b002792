#include "launch/eval_verb.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>

#include "core/base/status.h"
#include "core/trainer/requests.h"
#include "launch/inference.h"
#include "nlohmann/json.hpp"

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

absl::StatusOr<Case> ParseCase(const std::string& line, const std::string& pattern) {
  Case out;
  out.fields = Json::parse(line, nullptr, false);
  if (!out.fields.is_object()) return InvalidInput("not a JSON object");
  TANREN_ASSIGN_OR_RETURN(out.prompt, FillPrompt(pattern, out.fields));
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
    absl::StatusOr<Case> parsed = ParseCase(line, options.prompt);
    if (!parsed.ok()) return At(absl::StrCat(options.cases, ":", number), parsed.status());
    cases.push_back(*std::move(parsed));
  }
  if (cases.empty()) return InvalidInput("--cases: %s has no case", options.cases);
  return cases;
}

struct Tally {
  int64_t cases = 0;
  int64_t correct = 0;
  double accuracy() const { return static_cast<double>(correct) / static_cast<double>(cases); }
};

absl::Status Report(const EvalOptions& options, const InferenceModel& model, const std::vector<Case>& cases,
                    const std::vector<GenerationResult>& results, double seconds) {
  std::ofstream log;
  if (!options.out.empty()) log.open(options.out, std::ios::trunc);
  Tally all;
  std::map<std::string, Tally> by_difficulty;
  int64_t tokens = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    TANREN_ASSIGN_OR_RETURN(const std::string text, AnswerText(*model.tokenizer, results[i]));
    const std::string answer = ExtractAnswer(text, options.marker);
    const bool correct = answer == cases[i].answer;
    tokens += static_cast<int64_t>(results[i].tokens.size());
    for (Tally* tally : {&all, &by_difficulty[cases[i].difficulty]}) {
      ++tally->cases;
      tally->correct += correct;
    }
    if (log.is_open()) {
      const Json line = {{"prompt", cases[i].prompt},
                         {"completion", text},
                         {"answer", answer},
                         {"expected", cases[i].answer},
                         {"correct", correct}};
      log << line.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
    }
  }
  if (log.is_open() && !log.flush())
    return absl::InternalError(absl::StrCat("--out: cannot write ", options.out));
  Json summary = {{"checkpoint", model.path},   {"cases", all.cases}, {"correct", all.correct},
                  {"accuracy", all.accuracy()}, {"tokens", tokens},   {"seconds", seconds}};
  std::printf("%lld cases, %lld right: accuracy %.4f (%lld tokens, %.1f s)\n",
              static_cast<long long>(all.cases), static_cast<long long>(all.correct), all.accuracy(),
              static_cast<long long>(tokens), seconds);
  for (const auto& [difficulty, tally] : by_difficulty) {
    if (difficulty.empty()) continue;
    std::printf("  %-12s %6lld cases, accuracy %.4f\n", difficulty.c_str(),
                static_cast<long long>(tally.cases), tally.accuracy());
    summary["by_difficulty"][difficulty] = tally.accuracy();
  }
  std::fflush(stdout);
  if (options.summary.empty()) return absl::OkStatus();
  std::ofstream out(options.summary, std::ios::trunc);
  out << summary.dump(2) << "\n";
  if (!out.flush()) return absl::InternalError(absl::StrCat("--summary: cannot write ", options.summary));
  return absl::OkStatus();
}

absl::Status RunEval(Runtime& runtime, const EvalOptions& options) {
  absl::StatusOr<std::vector<Case>> cases = ReadCases(options);
  absl::Status ready = cases.status();
  if (options.max_tokens < 1) ready = InvalidInput("--max-tokens: %d is below 1", options.max_tokens);
  // What cannot be written is said before the work, not after it.
  if (ready.ok() && runtime.world().rank() == 0) {
    for (const std::string& path : {options.out, options.summary}) {
      if (!path.empty() && !std::ofstream(path, std::ios::app)) ready = InvalidInput("cannot write %s", path);
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "cases", ready));
  InferenceOptions inference;
  inference.checkpoint = options.checkpoint;
  inference.overrides = options.overrides;
  inference.slots = options.slots;
  for (const Case& one : *cases) {
    inference.generation_tokens =
        std::max(inference.generation_tokens, GenerationTokens(one.prompt, options.max_tokens));
  }
  TANREN_ASSIGN_OR_RETURN(const InferenceModel model, LoadForInference(runtime, inference));
  kernels::SamplingParams greedy;
  greedy.temperature = 0;
  std::vector<GenerationRequest> requests;
  for (const Case& one : *cases) {
    absl::StatusOr<GenerationRequest> request = MakeRequest(
        *model.tokenizer, model.engine->options().generation_tokens, one.prompt, options.max_tokens, greedy);
    if (!request.ok()) return At(absl::StrCat("case ", requests.size() + 1), request.status());
    requests.push_back(*std::move(request));
  }
  const auto begin = std::chrono::steady_clock::now();
  TANREN_ASSIGN_OR_RETURN(const std::vector<GenerationResult> results,
                          model.engine->Generate("policy", requests));
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  absl::Status reported;
  if (runtime.world().rank() == 0) reported = Report(options, model, *cases, results, seconds);
  return AgreeStatus(runtime.world(), "report", reported);
}

}  // namespace

std::string ExtractAnswer(const std::string& text, const std::string& marker) {
  const size_t at = text.rfind(marker);
  if (at == std::string::npos) return "";
  const size_t begin = text.find_first_not_of(" \t", at + marker.size());
  if (begin == std::string::npos) return "";
  const size_t line_end = std::min(text.find('\n', begin), text.size());
  const size_t end = text.find_last_not_of(" \t\r", line_end - 1);
  return end == std::string::npos || end < begin ? "" : text.substr(begin, end - begin + 1);
}

int Eval(const EvalOptions& options) {
  const absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  return StatusExit(RunEval(**runtime, options));
}

}  // namespace tanren
