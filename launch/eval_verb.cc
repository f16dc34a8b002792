#include "launch/eval_verb.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <optional>

#include "core/base/status.h"
#include "core/evaluation/report.h"
#include "core/evaluation/suite.h"
#include "core/tokenizer/files.h"
#include "launch/suite_run.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

enum StrategyIndex { kGreedy, kMajority, kBest, kWeighted };  // the last two with a reward model only

absl::Status CheckOptions(const EvalOptions& options) {
  if (options.max_tokens < 1) return InvalidInput("--max-tokens: %d is below 1", options.max_tokens);
  if (options.samples < 0) return InvalidInput("--samples: %d is below 0", options.samples);
  if (!(options.temperature > 0) || !std::isfinite(options.temperature)) {
    return InvalidInput("--temperature: %g is not a number above 0", options.temperature);
  }
  if (!options.reference.empty() && (options.samples == 0 || options.temperature != 1)) {
    return InvalidInput(
        "--reference: the KL divergence is measured on samples at temperature 1: give --samples");
  }
  return absl::OkStatus();
}

config::SuiteConfig SuiteOf(const EvalOptions& options) {
  config::SuiteConfig suite;
  suite.set_checkpoint(options.checkpoint);
  suite.set_reward(options.reward);
  suite.set_reference(options.reference);
  suite.mutable_overrides()->Assign(options.overrides.begin(), options.overrides.end());
  suite.set_seed(static_cast<int64_t>(options.seed));
  suite.set_max_tokens(options.max_tokens);
  suite.set_decode_slots(options.slots);
  config::TestConfig& test = *suite.add_tests();
  test.set_name("cases");
  test.set_cases(options.cases);
  test.set_limit(options.limit);
  test.mutable_prompt()->set_pattern(options.prompt);
  test.mutable_check()->set_marker(options.marker);
  config::StrategyConfig& greedy = *test.add_strategies();
  greedy.set_name("greedy");
  greedy.add_parts()->mutable_sample();
  if (options.samples == 0) return suite;
  const auto sampled = [&](const char* name) -> config::PartConfig* {
    config::StrategyConfig& strategy = *test.add_strategies();
    strategy.set_name(name);
    config::SampleConfig& sample = *strategy.add_parts()->mutable_sample();
    sample.set_n(options.samples);
    sample.set_temperature(options.temperature);
    return strategy.add_parts();
  };
  sampled("majority")->mutable_vote();
  if (options.reward.empty()) return suite;
  sampled("best")->mutable_select()->set_by(config::SelectConfig::reward);
  sampled("weighted")->mutable_vote()->set_by(config::VoteConfig::reward);
  return suite;
}

// The figures of some cases under the names that `tanren report` and the scripts read.
OrderedJson FiguresOf(const SuiteResult& result, const std::vector<int64_t>& chosen) {
  const TestResult& test = result.tests[0];
  const auto of = [&](StrategyIndex index) {
    const StrategyResult& one = test.strategies[index];
    return tanren::FiguresOf(*result.suite, *test.test, one.strategy, test.cases, one.record, chosen);
  };
  const Figures greedy = of(kGreedy);
  const std::vector<CaseRecord>& records = test.strategies[kGreedy].record.cases;
  const int64_t correct =
      std::ranges::count_if(chosen, [&](int64_t i) { return records[i].checked && records[i].right; });
  OrderedJson figures = {{"cases", chosen.size()}, {"correct", correct}};
  // Where no case has an answer there is nothing to say of accuracy.
  const auto put = [&](const char* name, std::optional<double> value) {
    if (value.has_value()) figures[name] = *value;
  };
  put("accuracy", FindFigure(greedy, "accuracy"));
  put("steps_valid", FindFigure(greedy, "steps_valid"));
  if (test.strategies.size() <= kMajority) return figures;
  const Figures majority = of(kMajority);
  const int64_t samples = test.strategies[kMajority].strategy.answers();
  const std::optional<double> accuracy = FindFigure(majority, "accuracy");
  put("majority", accuracy);
  put("kl", FindFigure(majority, "reference_kl"));
  // One sample is its own pass@1; a strategy of one answer has no figures over several.
  const auto over_samples = [&](const std::string& name, std::optional<double> otherwise) {
    const std::optional<double> found = FindFigure(majority, name);
    return found.has_value() ? found : otherwise;
  };
  put("pass_at_1", over_samples("pass_at_1", accuracy));
  put("pass_at_n", over_samples(absl::StrCat("pass_at_", samples), accuracy));
  std::optional<double> answered = FindFigure(majority, "no_answer");
  if (answered.has_value()) answered = 1 - *answered;
  put("consistency", over_samples("consistency", answered));
  if (test.strategies.size() <= kBest) return figures;
  put("best_of_n", FindFigure(of(kBest), "accuracy"));
  put("weighted_vote", FindFigure(of(kWeighted), "accuracy"));
  return figures;
}

OrderedJson SummaryOf(const SuiteResult& result) {
  const TestResult& test = result.tests[0];
  OrderedJson summary = FiguresOf(result, AllOf(test.cases));
  summary["checkpoint"] = result.checkpoint;
  // The samples were drawn once for all strategies that choose among them.
  int64_t tokens = 0;
  double seconds = 0;
  for (size_t s = 0; s < test.strategies.size() && s <= kMajority; ++s) {
    tokens += test.strategies[s].record.tokens;
    seconds += test.strategies[s].record.seconds;
  }
  summary["tokens"] = tokens;
  summary["seconds"] = seconds;
  for (const auto& [name, chosen] : GroupsOf(test.cases, GroupBy::kDifficulty)) {
    const OrderedJson figures = FiguresOf(result, chosen);
    if (figures.contains("accuracy")) summary["by_difficulty"][name] = figures["accuracy"];
    summary["figures_by_difficulty"][name] = figures;
  }
  return summary;
}

// A line that `tanren annotate` reads: the greedy answer and the samples of one case.
OrderedJson LineOf(const TestResult& test, size_t index, bool scores) {
  const EvaluationCase& one = test.cases[index];
  const TurnRecord& greedy = test.strategies[kGreedy].record.cases[index].turns[0];
  OrderedJson line = {{"prompt", greedy.prompt.text},
                      {"completion", greedy.chosen()->text},
                      {"extracted", greedy.answers[0]},
                      {"answer", greedy.reference.value_or("")},
                      {"correct", greedy.verdict()->right}};
  if (one.fields.contains("kind")) line["kind"] = one.fields["kind"];
  line["difficulty"] = one.difficulty;
  if (test.strategies.size() <= kMajority) return line;
  const TurnRecord& samples = test.strategies[kMajority].record.cases[index].turns[0];
  for (size_t s = 0; s < samples.answers.size(); ++s) {
    line["responses"].push_back(samples.replies.replies[s].text);
    line["right"].push_back(samples.verdicts[s].right);
    if (scores) line["scores"].push_back(samples.replies.replies[s].score);
  }
  return line;
}

absl::Status Report(const EvalOptions& options, const SuiteResult& result) {
  const TestResult& test = result.tests[0];
  const OrderedJson summary = SummaryOf(result);
  const std::string accuracy = summary.contains("accuracy")
                                   ? absl::StrFormat("accuracy %.4f", summary["accuracy"].get<double>())
                                   : "no case has an answer";
  std::printf("%zu cases, %lld right: %s (%lld tokens, %.1f s)\n", test.cases.size(),
              summary["correct"].get<long long>(), accuracy.c_str(), summary["tokens"].get<long long>(),
              summary["seconds"].get<double>());
  std::fputs(TableOf(result).c_str(), stdout);
  std::fflush(stdout);
  if (!options.out.empty()) {
    std::string log;
    for (size_t i = 0; i < test.cases.size(); ++i) {
      absl::StrAppend(&log, DumpJson(LineOf(test, i, !options.reward.empty())), "\n");
    }
    TANREN_RETURN_IF_ERROR(At("--out", WriteSmallFile(options.out, log)));
  }
  if (options.summary.empty()) return absl::OkStatus();
  return At("--summary", WriteSmallFile(options.summary, summary.dump(2) + "\n"));
}

absl::Status RunEval(Runtime& runtime, const EvalOptions& options) {
  const config::SuiteConfig suite = SuiteOf(options);
  absl::Status ready = CheckOptions(options);
  if (ready.ok()) ready = ValidateSuite(suite);
  // What cannot be written is said before the work, not after it.
  if (ready.ok() && runtime.world().rank() == 0) {
    for (const std::string& path : {options.out, options.summary}) {
      if (!path.empty() && !std::ofstream(path, std::ios::app)) ready = InvalidInput("cannot write %s", path);
    }
  }
  TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "options", ready));
  TANREN_ASSIGN_OR_RETURN(const SuiteResult result, RunSuite(runtime, suite, /*trace=*/""));
  absl::Status reported;
  if (runtime.world().rank() == 0) reported = Report(options, result);
  return AgreeStatus(runtime.world(), "report", reported);
}

}  // namespace

int Eval(const EvalOptions& options) {
  const absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  return StatusExit(RunEval(**runtime, options));
}

}  // namespace tanren
