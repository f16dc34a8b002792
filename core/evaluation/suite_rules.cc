#include "core/evaluation/suite_rules.h"

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "core/base/status.h"
#include "core/config/schema.h"
#include "core/config/text.h"
#include "core/evaluation/figures.h"
#include "core/evaluation/suite.h"

namespace tanren {
namespace {

using config::ErrorReport;
using config::Printable;

bool IsPlainName(const std::string& name) {
  return !name.empty() && name.size() <= 64 && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
  });
}

void CheckName(const std::string& path, const std::string& name, std::set<std::string>* names,
               ErrorReport* report) {
  if (name.empty()) return;  // reported as required
  if (!IsPlainName(name)) {
    report->AddRule({path}, absl::StrCat(Printable(name),
                                         ": a name has 1 to 64 letters, digits, hyphens and underscores"));
  } else if (!names->insert(name).second) {
    report->AddRule({path}, absl::StrCat(name, " is the name of an earlier one too"));
  }
}

// What a part of a chain is, and where it may stand: each later than the one before.
struct PartPlace {
  const char* name = "";
  int place = 0;  // 0: none
  int count = 0;
};

PartPlace PlaceOf(const config::PartConfig& part) {
  PartPlace out;
  const auto is = [&](bool has, const char* name, int place) {
    if (!has) return;
    out.name = name;
    out.place = place;
    ++out.count;
  };
  is(part.has_prompt(), "prompt", 1);
  is(part.has_sample(), "sample", 2);
  is(part.has_beam(), "beam", 2);
  is(part.has_extract(), "extract", 3);
  is(part.has_check(), "check", 4);
  is(part.has_vote(), "vote", 5);
  is(part.has_select(), "select", 5);
  return out;
}

void CheckParts(const std::string& path, const config::StrategyConfig& strategy, ErrorReport* report) {
  PartPlace before;
  for (int i = 0; i < strategy.parts_size(); ++i) {
    const std::string part = absl::StrCat(path, ".parts.", i);
    const PartPlace here = PlaceOf(strategy.parts(i));
    if (here.count != 1) {
      report->AddRule(
          {part}, absl::StrCat("holds ", here.count,
                               " parts; one of prompt, sample, beam, extract, check, vote and select each"));
    } else if (here.place <= before.place) {
      report->AddRule({part},
                      absl::StrCat(here.name, " cannot follow ", before.name,
                                   "; the order is prompt, sample or beam, extract, check, vote or select"));
    }
    if (here.count == 1) before = here;
  }
}

void CheckPrompt(const std::string& path, const config::PromptConfig& prompt, ErrorReport* report) {
  if (prompt.style() == config::PromptConfig::chat && !prompt.pattern().empty()) {
    report->AddRule({path + ".pattern", path + ".style"},
                    "has no effect with style chat; use style text, or remove it");
  }
  if (prompt.few_shot().has_k() && prompt.few_shot().path().empty()) {
    report->AddRule({path + ".few_shot.path", path + ".few_shot.k"}, "is needed to take examples from");
  }
}

void CheckCheck(const std::string& path, const config::CheckConfig& check, ErrorReport* report) {
  const bool external = check.checker() == config::CheckConfig::external;
  if (external && check.command().empty()) {
    report->AddRule({path + ".command", path + ".checker"}, "is required by checker external: a program");
  }
  if (!external && !check.command().empty()) {
    report->AddRule({path + ".command", path + ".checker"}, "is not run; it needs checker external");
  }
}

void CheckStrategy(const std::string& path, const config::SuiteConfig& suite, const config::TestConfig& test,
                   const config::StrategyConfig& config, ErrorReport* report) {
  CheckParts(path, config, report);
  const Strategy strategy = ResolveStrategy(suite, test, config);
  const bool by_reward = strategy.choice == Strategy::Choice::kVoteByReward ||
                         strategy.choice == Strategy::Choice::kBestByReward ||
                         (strategy.beams && strategy.beam.score() == config::BeamConfig::reward);
  if (by_reward && suite.reward().empty()) {
    report->AddRule({"reward", path}, absl::StrCat("is needed by strategy ", Printable(config.name()),
                                                   " of test ", Printable(test.name())));
  }
  for (int i = 0; i < config.parts_size(); ++i) {
    const std::string part = absl::StrCat(path, ".parts.", i);
    if (config.parts(i).has_prompt()) CheckPrompt(part + ".prompt", strategy.prompt, report);
    if (config.parts(i).has_check()) CheckCheck(part + ".check", strategy.check, report);
    if (!config.parts(i).has_sample()) continue;
    const config::SampleConfig& sample = config.parts(i).sample();
    if (sample.n() > 1 && sample.temperature() == 0) {
      report->AddRule({part + ".sample.n", part + ".sample.temperature"},
                      absl::StrCat(sample.n(), " greedy answers are all the same; give a temperature"));
    }
    if (sample.thinking_tokens() > strategy.sample.max_tokens()) {
      report->AddRule({part + ".sample.thinking_tokens", part + ".sample.max_tokens"},
                      absl::StrCat(sample.thinking_tokens(), " is more than max_tokens ",
                                   strategy.sample.max_tokens(), ", so nothing is ever forced"));
    }
    if (sample.thinking_tokens() > 0 && strategy.marker.empty()) {
      report->AddRule({part + ".sample.thinking_tokens"}, "needs a marker that can be appended");
    }
  }
  for (int i = 0; i < config.curve_size(); ++i) {
    if (config.curve(i) <= strategy.answers()) continue;
    report->AddRule({path + ".curve", path},
                    absl::StrCat(config.curve(i), " is more than the ", strategy.answers(),
                                 " answers that the strategy gives; raise sample.n"));
  }
}

void CheckTest(const std::string& path, const config::SuiteConfig& suite, const config::TestConfig& test,
               ErrorReport* report) {
  const int kinds =
      (test.cases().empty() ? 0 : 1) + (test.has_perplexity() ? 1 : 0) + (test.rankings().empty() ? 0 : 1);
  if (kinds != 1) {
    return report->AddRule({path}, "needs one of cases, perplexity and rankings, and not more");
  }
  if (test.cases().empty() && !test.strategies().empty()) {
    report->AddRule({path + ".strategies"}, "answer cases, and this test has none");
  }
  if (!test.cases().empty() && test.strategies().empty()) {
    report->AddRule({path + ".strategies", path}, "is empty; give one, for example {name: greedy}");
  }
  if (!test.rankings().empty() && suite.reward().empty()) {
    report->AddRule({"reward", path}, absl::StrCat("is needed by test ", Printable(test.name()),
                                                   ": rankings are ordered by a reward model"));
  }
  if (test.has_perplexity() && test.perplexity().tokens().empty() == test.perplexity().examples().empty()) {
    report->AddRule({path + ".perplexity"}, "needs one of tokens and examples, and not both");
  }
  CheckPrompt(path + ".prompt", test.prompt(), report);
  CheckCheck(path + ".check", test.check(), report);
  std::set<std::string> names;
  for (int i = 0; i < test.strategies_size(); ++i) {
    const std::string strategy = absl::StrCat(path, ".strategies.", i);
    CheckName(strategy + ".name", test.strategies(i).name(), &names, report);
    CheckStrategy(strategy, suite, test, test.strategies(i), report);
  }
}

// The message of a name that is none of `names`.
std::string Unknown(const char* what, const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = config::SuggestChoice(names, name);
  return absl::StrCat("there is no ", what, " ", Printable(name),
                      nearest.empty() ? absl::StrCat("; use ", config::JoinWithOr(names)) : nearest);
}

void CheckGate(const std::string& path, const config::SuiteConfig& suite, const config::GateConfig& gate,
               ErrorReport* report) {
  if (!gate.has_minimum() && !gate.has_maximum()) {
    report->AddRule({path}, "has no limit; give minimum or maximum");
  }
  std::vector<std::string> tests, strategies;
  const config::TestConfig* test = nullptr;
  for (const config::TestConfig& one : suite.tests()) {
    tests.push_back(one.name());
    if (one.name() == gate.test()) test = &one;
  }
  if (gate.test().empty() || tests.empty()) return;
  if (test == nullptr) return report->AddRule({path + ".test"}, Unknown("test", gate.test(), tests));
  const config::StrategyConfig* strategy = nullptr;
  for (const config::StrategyConfig& one : test->strategies()) {
    strategies.push_back(one.name());
    if (one.name() == gate.strategy()) strategy = &one;
  }
  if (test->cases().empty()) {
    if (!gate.strategy().empty() || !gate.difficulty().empty() || !gate.kind().empty()) {
      return report->AddRule({path}, "strategy, difficulty and kind belong to tests with cases");
    }
  } else if (strategy == nullptr) {
    if (!strategies.empty()) {
      report->AddRule({path + ".strategy", path}, Unknown("strategy", gate.strategy(), strategies));
    }
    return;
  }
  const std::vector<std::string> figures = FigureNames(suite, *test, strategy);
  if (gate.figure() == "seconds" && (!gate.difficulty().empty() || !gate.kind().empty())) {
    return report->AddRule({path + ".figure"}, "seconds are those of all cases together");
  }
  if (!gate.figure().empty() && std::ranges::find(figures, gate.figure()) == figures.end()) {
    report->AddRule({path + ".figure"}, Unknown("figure", gate.figure(), figures));
  }
}

}  // namespace

void CheckSuiteRules(const config::SuiteConfig& suite, ErrorReport* report) {
  if (suite.tests().empty()) report->AddRule({"tests"}, "is empty; name what is to be measured");
  if (!suite.versus().empty() && suite.reward().empty()) {
    report->AddRule({"reward", "versus"}, "is needed by versus: it judges who wins");
  }
  const auto measures_kl = [&](const config::TestConfig& test) {
    return std::ranges::any_of(test.strategies(), [&](const config::StrategyConfig& strategy) {
      return MeasuresKl(suite, ResolveStrategy(suite, test, strategy));
    });
  };
  if (!suite.reference().empty() && std::ranges::none_of(suite.tests(), measures_kl)) {
    report->AddRule(
        {"reference"},
        "needs a strategy that samples at temperature 1, without top_k, top_p, repetition_penalty, "
        "no_repeat_ngram and thinking_tokens");
  }
  std::set<std::string> names;
  for (int i = 0; i < suite.tests_size(); ++i) {
    const std::string path = absl::StrCat("tests.", i);
    CheckName(path + ".name", suite.tests(i).name(), &names, report);
    CheckTest(path, suite, suite.tests(i), report);
  }
  for (int i = 0; i < suite.gates_size(); ++i) {
    CheckGate(absl::StrCat("gates.", i), suite, suite.gates(i), report);
  }
}

}  // namespace tanren
