#include "stages/rl/answer_checks.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "core/base/status.h"
#include "core/proto/config.pb.h"

namespace tanren {
namespace {

using config::RewardConfig;

CheckerOptions::Kind KindOf(RewardConfig::Checker checker) {
  switch (checker) {
    case RewardConfig::exact:
      return CheckerOptions::Kind::kExact;
    case RewardConfig::regex:
      return CheckerOptions::Kind::kRegex;
    case RewardConfig::external:
      return CheckerOptions::Kind::kCommand;
    default:
      return CheckerOptions::Kind::kNumeric;
  }
}

// Of the main checker and of an aspect, whose keys have the same names.
template <class Section>
CheckerOptions OptionsOf(const Section& section, const std::string& marker) {
  CheckerOptions options;
  options.kind = KindOf(section.checker());
  options.marker = marker;
  options.command.assign(section.command().begin(), section.command().end());
  options.time_limit_seconds = section.time_limit_seconds();
  return options;
}

bool IsName(const std::string& text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

absl::Status CheckAspect(const config::RewardAspect& aspect) {
  const bool checked = aspect.checker() != RewardConfig::none;
  if (checked != aspect.model().empty()) {
    return InvalidInput("%s; an aspect is scored by a checker or by a model",
                        checked ? "both checker and model are given" : "neither checker nor model is given");
  }
  if (!aspect.pattern().empty() && aspect.checker() != RewardConfig::regex) {
    return InvalidInput("pattern: \"%s\" is read by checker regex only", aspect.pattern());
  }
  if (!aspect.command().empty() && aspect.checker() != RewardConfig::external) {
    return InvalidInput("command: \"%s\" is read by checker external only", aspect.command(0));
  }
  return absl::OkStatus();
}

void Fail(std::string why, AnswerVerdict* verdict) { *verdict = {0, false, true, std::move(why), {}}; }

// What a result says of the aspect `name`; of the main checker with an empty name.
AnswerVerdict VerdictOf(const CheckResult& result, const std::string& name) {
  AnswerVerdict verdict{result.score, result.right, false, "", result.steps};
  if (result.failed) {
    Fail(result.failure, &verdict);
  } else if (!name.empty() && !result.scores.empty()) {
    const auto found = result.scores.find(name);
    if (found == result.scores.end()) {
      Fail(absl::StrCat("the command gave scores and none for ", name), &verdict);
    } else {
      verdict.score = found->second;
      verdict.right = verdict.score >= 0.5;
    }
  }
  return verdict;
}

void PackVerdict(const AnswerVerdict& verdict, std::string* bytes) {
  const uint64_t length = verdict.failure.size();
  const char flags[2] = {static_cast<char>(verdict.right), static_cast<char>(verdict.failed)};
  bytes->append(reinterpret_cast<const char*>(&verdict.score), sizeof(verdict.score));
  bytes->append(flags, sizeof(flags));
  bytes->append(reinterpret_cast<const char*>(&length), sizeof(length));
  bytes->append(verdict.failure);
  const int64_t steps = verdict.steps.has_value() ? static_cast<int64_t>(verdict.steps->size()) : -1;
  bytes->append(reinterpret_cast<const char*>(&steps), sizeof(steps));
  if (steps > 0) bytes->append(reinterpret_cast<const char*>(verdict.steps->data()), steps * sizeof(double));
}

AnswerVerdict UnpackVerdict(const char** at) {
  AnswerVerdict verdict;
  uint64_t length = 0;
  std::memcpy(&verdict.score, *at, sizeof(verdict.score));
  *at += sizeof(verdict.score);
  verdict.right = *(*at)++ != 0;
  verdict.failed = *(*at)++ != 0;
  std::memcpy(&length, *at, sizeof(length));
  *at += sizeof(length);
  verdict.failure.assign(*at, length);
  *at += length;
  int64_t steps = 0;
  std::memcpy(&steps, *at, sizeof(steps));
  *at += sizeof(steps);
  if (steps >= 0) verdict.steps.emplace(steps);
  if (steps > 0) std::memcpy(verdict.steps->data(), *at, steps * sizeof(double));
  if (steps > 0) *at += steps * sizeof(double);
  return verdict;
}

absl::Status RequireFinite(const std::string& place, const AnswerVerdict& verdict,
                           const AnswerToCheck& answer) {
  double wrong = verdict.score;
  const char* what = "an answer";
  for (const double step : verdict.steps.value_or(std::vector<double>())) {
    if (!std::isfinite(wrong)) break;
    wrong = step;
    what = "a line of an answer";
  }
  if (std::isfinite(wrong)) return absl::OkStatus();
  return InvalidInput("%s: the score of %s to \"%s\" is %g; scores are finite numbers", place, what,
                      answer.prompt, wrong);
}

}  // namespace

double CheckerWeight(const RewardConfig& config) {
  if (config.checker_weight() >= 0) return config.checker_weight();
  return config.aspects().empty() ? 1 : 0;
}

absl::StatusOr<std::vector<Aspect>> AspectsFromConfig(const RewardConfig& config) {
  std::vector<Aspect> aspects;
  std::set<std::string> names;
  for (const config::RewardAspect& given : config.aspects()) {
    Aspect aspect{given.name(), given.weight(), given.model()};
    if (!IsName(aspect.name)) {
      return InvalidInput("rewards.aspects: name \"%s\"; use letters, digits and _", aspect.name);
    }
    if (!names.insert(aspect.name).second) {
      return InvalidInput("rewards.aspects: two are named %s; names are the columns of the log", aspect.name);
    }
    TANREN_RETURN_IF_ERROR(At(aspect.key(), CheckAspect(given)));
    aspects.push_back(std::move(aspect));
  }
  return aspects;
}

absl::StatusOr<AnswerChecks::Question> AnswerChecks::MakeQuestion(const CheckerOptions& options,
                                                                  const std::string& pattern) {
  Question question;
  TANREN_ASSIGN_OR_RETURN(question.checker, MakeChecker(options));
  question.pattern = pattern;
  question.reads_reference = options.kind != CheckerOptions::Kind::kCommand && pattern.empty();
  // A pattern is wrong for all answers, and that is said before the first.
  if (!pattern.empty()) {
    const CheckResult result = question.checker->Check("", "x", pattern);
    if (result.failed) return InvalidInput("pattern: %s", result.failure);
  }
  return question;
}

absl::StatusOr<AnswerChecks> AnswerChecks::Make(const RewardConfig& config) {
  AnswerChecks checks;
  std::map<std::pair<std::vector<std::string>, double>, std::shared_ptr<Checker>> commands;
  const auto share = [&](const CheckerOptions& options, Question* question) {
    if (options.kind != CheckerOptions::Kind::kCommand) return;
    auto& shared = commands[{options.command, options.time_limit_seconds}];
    if (!shared) shared = question->checker;
    question->checker = shared;
  };
  if (config.checker() != RewardConfig::none) {
    const CheckerOptions options = OptionsOf(config, config.marker());
    absl::StatusOr<Question> main = MakeQuestion(options, "");
    if (!main.ok()) return At("rewards.checker", main.status());
    checks.main_ = *std::move(main);
    checks.main_.reads_reference = true;
    share(options, &checks.main_);
  }
  TANREN_ASSIGN_OR_RETURN(const std::vector<Aspect> aspects, AspectsFromConfig(config));
  for (size_t i = 0; i < aspects.size(); ++i) {
    const config::RewardAspect& given = config.aspects(static_cast<int>(i));
    Question question;
    if (aspects[i].model.empty()) {
      const CheckerOptions options = OptionsOf(given, given.pattern().empty() ? config.marker() : "");
      absl::StatusOr<Question> made = MakeQuestion(options, given.pattern());
      if (!made.ok()) return At(aspects[i].key(), made.status());
      question = *std::move(made);
      share(options, &question);
    }
    question.name = aspects[i].name;
    checks.aspects_.push_back(std::move(question));
  }
  return checks;
}

bool AnswerChecks::needs_reference() const {
  return main_.reads_reference ||
         std::ranges::any_of(aspects_, [](const Question& question) { return question.reads_reference; });
}

AnswerChecks::Checked AnswerChecks::CheckOne(const AnswerToCheck& answer, bool with_aspects) const {
  Checked checked;
  // Of commands, which are asked alike.
  std::map<const Checker*, CheckResult> asked;
  const auto ask = [&](const Question& question) {
    if (question.checker == nullptr) return AnswerVerdict();
    if (!question.pattern.empty()) {
      return VerdictOf(question.checker->Check(answer.prompt, answer.response, question.pattern),
                       question.name);
    }
    const auto [found, is_new] = asked.try_emplace(question.checker.get());
    if (is_new) found->second = question.checker->Check(answer.prompt, answer.response, answer.reference);
    return VerdictOf(found->second, question.name);
  };
  checked.main = ask(main_);
  for (const Question& question : aspects_)
    checked.aspects.push_back(with_aspects ? ask(question) : AnswerVerdict());
  return checked;
}

absl::StatusOr<std::vector<AnswerChecks::Checked>> AnswerChecks::Check(
    Comm& world, const std::vector<AnswerToCheck>& answers, bool with_aspects) const {
  std::string mine;
  for (size_t i = world.rank(); i < answers.size(); i += world.size()) {
    const Checked checked = CheckOne(answers[i], with_aspects);
    PackVerdict(checked.main, &mine);
    for (const AnswerVerdict& verdict : checked.aspects) PackVerdict(verdict, &mine);
  }
  const std::vector<std::string> all = AllGatherStrings(world, "checked answers", mine);
  std::vector<const char*> at;
  for (const std::string& bytes : all) at.push_back(bytes.data());
  std::vector<Checked> checked(answers.size());
  for (size_t i = 0; i < answers.size(); ++i) {
    const char** next = &at[i % world.size()];
    checked[i].main = UnpackVerdict(next);
    for (size_t a = 0; a < aspects_.size(); ++a) checked[i].aspects.push_back(UnpackVerdict(next));
  }
  for (size_t i = 0; i < answers.size(); ++i) {
    TANREN_RETURN_IF_ERROR(RequireFinite("rewards.checker", checked[i].main, answers[i]));
    for (size_t a = 0; a < aspects_.size(); ++a) {
      TANREN_RETURN_IF_ERROR(RequireFinite(absl::StrCat("rewards.aspects: ", aspects_[a].name),
                                           checked[i].aspects[a], answers[i]));
    }
  }
  return checked;
}

}  // namespace tanren
