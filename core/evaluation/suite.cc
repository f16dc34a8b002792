#include "core/evaluation/suite.h"

#include <algorithm>

#include "core/base/status.h"
#include "core/config/checked.h"
#include "core/config/loader.h"
#include "core/evaluation/suite_rules.h"

namespace tanren {
namespace {

Strategy::Choice ChoiceOf(const config::VoteConfig& vote) {
  switch (vote.by()) {
    case config::VoteConfig::majority:
      return Strategy::Choice::kMajority;
    case config::VoteConfig::reward:
      return Strategy::Choice::kVoteByReward;
    case config::VoteConfig::logp:
      return Strategy::Choice::kVoteByLogp;
  }
  return Strategy::Choice::kMajority;
}

Strategy::Choice ChoiceOf(const config::SelectConfig& select) {
  switch (select.by()) {
    case config::SelectConfig::first:
      return Strategy::Choice::kFirst;
    case config::SelectConfig::reward:
      return Strategy::Choice::kBestByReward;
    case config::SelectConfig::logp:
      return Strategy::Choice::kBestByLogp;
  }
  return Strategy::Choice::kFirst;
}

// Lists are replaced as a whole, as an override of the YAML would.
void Override(const config::CheckConfig& over, config::CheckConfig* check) {
  if (!over.command().empty()) check->clear_command();
  check->MergeFrom(over);
}

}  // namespace

absl::StatusOr<config::SuiteConfig> LoadSuite(const std::string& path,
                                              std::span<const std::string> overrides) {
  return config::LoadChecked<config::SuiteConfig>(
      path, [&](config::Loader* loader) { loader->ReadFile(path, overrides); }, CheckSuiteRules);
}

absl::StatusOr<config::SuiteConfig> LoadSuiteText(const std::string& text, const std::string& name,
                                                  std::span<const std::string> overrides) {
  return config::LoadChecked<config::SuiteConfig>(
      name, [&](config::Loader* loader) { loader->ReadText(text, name, overrides); }, CheckSuiteRules);
}

absl::Status ValidateSuite(const config::SuiteConfig& suite) {
  return config::ValidateChecked<config::SuiteConfig>(suite, CheckSuiteRules);
}

Strategy ResolveStrategy(const config::SuiteConfig& suite, const config::TestConfig& test,
                         const config::StrategyConfig& strategy) {
  Strategy out;
  out.name = strategy.name();
  out.prompt = test.prompt();
  out.check = test.check();
  out.curve.assign(strategy.curve().begin(), strategy.curve().end());
  bool has_marker = false;
  for (const config::PartConfig& part : strategy.parts()) {
    if (part.has_prompt()) out.prompt.MergeFrom(part.prompt());
    if (part.has_sample()) out.sample = part.sample();
    if (part.has_beam()) {
      out.beams = true;
      out.beam = part.beam();
    }
    if (part.extract().has_marker()) {
      has_marker = true;
      out.marker = part.extract().marker();
    }
    if (part.has_check()) Override(part.check(), &out.check);
    if (part.has_vote()) out.choice = ChoiceOf(part.vote());
    if (part.has_select()) out.choice = ChoiceOf(part.select());
  }
  if (!has_marker) out.marker = out.check.marker();
  if (out.sample.seed() < 0) out.sample.set_seed(suite.seed());
  if (out.beam.seed() < 0) out.beam.set_seed(suite.seed());
  if (out.sample.max_tokens() == 0) out.sample.set_max_tokens(suite.max_tokens());
  if (out.beam.max_tokens() == 0) out.beam.set_max_tokens(suite.max_tokens());
  return out;
}

int64_t Strategy::most_tokens() const {
  if (beams) return beam.max_tokens();
  if (sample.thinking_tokens() == 0) return sample.max_tokens();
  // No tokenizer makes more tokens than bytes of the marker, the line feed and space around it.
  const int64_t forced =
      sample.thinking_tokens() + static_cast<int64_t>(marker.size()) + 3 + sample.answer_tokens();
  return std::max(sample.max_tokens(), forced);
}

CheckerOptions CheckerOptionsOf(const config::CheckConfig& check) {
  CheckerOptions options;
  switch (check.checker()) {
    case config::CheckConfig::none:
    case config::CheckConfig::numeric:
      options.kind = CheckerOptions::Kind::kNumeric;
      break;
    case config::CheckConfig::exact:
      options.kind = CheckerOptions::Kind::kExact;
      break;
    case config::CheckConfig::regex:
      options.kind = CheckerOptions::Kind::kRegex;
      break;
    case config::CheckConfig::external:
      options.kind = CheckerOptions::Kind::kCommand;
      break;
  }
  options.marker = check.marker();
  options.ignore_case = check.ignore_case();
  options.tolerance = check.tolerance();
  options.command.assign(check.command().begin(), check.command().end());
  options.time_limit_seconds = check.time_limit_seconds();
  return options;
}

}  // namespace tanren
