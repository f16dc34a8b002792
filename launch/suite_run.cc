#include "launch/suite_run.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "core/evaluation/runner.h"
#include "launch/engine_answer_model.h"
#include "launch/inference.h"
#include "launch/suite_measures.h"
#include "stages/common/example_units.h"

namespace tanren {
namespace {

using Cases = std::vector<std::vector<EvaluationCase>>;

// The cases of each test, none for tests without.
absl::StatusOr<Cases> ReadAllCases(const config::SuiteConfig& suite) {
  Cases all;
  for (const config::TestConfig& test : suite.tests()) {
    all.emplace_back();
    if (test.cases().empty()) continue;
    CaseOptions options;
    options.limit = test.limit();
    for (const config::StrategyConfig& strategy : test.strategies()) {
      const config::CheckConfig check = ResolveStrategy(suite, test, strategy).check;
      options.answers_required |= check.checker() != config::CheckConfig::none;
    }
    absl::StatusOr<std::vector<EvaluationCase>> cases = ReadCases(test.cases(), options);
    if (!cases.ok()) return At(absl::StrCat("test ", test.name()), cases.status());
    all.back() = *std::move(cases);
  }
  return all;
}

PromptModel PromptModelOf(const config::Config& config, const Tokenizer& tokenizer) {
  PromptModel out{&tokenizer, ChatTemplateFromConfig(config, tokenizer), config.chat().system(), false};
  out.pretrained_only = config.stage() == "pretrain";
  return out;
}

// Checkers are made once before anything runs, so that a wrong one is said at once.
absl::Status CheckCheckers(const config::SuiteConfig& suite) {
  for (const config::TestConfig& test : suite.tests()) {
    for (const config::StrategyConfig& strategy : test.strategies()) {
      const absl::Status made =
          AnswerChecker::Make(ResolveStrategy(suite, test, strategy).check, test.harmful()).status();
      if (!made.ok()) return At(absl::StrCat("test ", test.name(), ", ", strategy.name()), made);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<InferenceModel> Load(Runtime& runtime, const config::SuiteConfig& suite, const Cases& cases) {
  InferenceOptions options;
  options.checkpoint = suite.checkpoint();
  options.overrides.assign(suite.overrides().begin(), suite.overrides().end());
  options.slots = suite.decode_slots();
  options.reward = suite.reward();
  options.versus = suite.versus();
  options.reference = suite.reference();
  options.plan = [&](const config::Config& config, const Tokenizer& tokenizer, int64_t context_tokens) {
    return PlanSequenceTokens(suite, cases, PromptModelOf(config, tokenizer), context_tokens);
  };
  return LoadForInference(runtime, options);
}

// A loaded model with what a runner needs of it.
struct Bound {
  InferenceModel model;
  std::optional<PromptModel> prompts;
  std::unique_ptr<EngineAnswerModel> policy, versus;
};

absl::StatusOr<std::unique_ptr<Bound>> Bind(Runtime& runtime, const config::SuiteConfig& suite,
                                            const Cases& cases) {
  auto bound = std::make_unique<Bound>();
  TANREN_ASSIGN_OR_RETURN(bound->model, Load(runtime, suite, cases));
  Engine* engine = bound->model.engine.get();
  bound->prompts = PromptModelOf(bound->model.config, *bound->model.tokenizer);
  bound->policy = std::make_unique<EngineAnswerModel>(engine, "policy", bound->model.scale);
  if (engine->HasModel("versus")) {
    bound->versus = std::make_unique<EngineAnswerModel>(engine, "versus", bound->model.scale);
  }
  return bound;
}

RunnerOptions OptionsOf(Runtime& runtime, const config::SuiteConfig& suite, const Trace& trace,
                        Bound* bound) {
  RunnerOptions options;
  options.world = &runtime.world();
  options.suite = &suite;
  options.trace = &trace;
  if (bound == nullptr) return options;
  options.prompts = &*bound->prompts;
  options.model = bound->policy.get();
  options.versus = bound->versus.get();
  return options;
}

absl::StatusOr<std::vector<std::optional<SuiteMeasure>>> OpenMeasures(const config::SuiteConfig& suite,
                                                                      const InferenceModel& model) {
  std::vector<std::optional<SuiteMeasure>> measures(suite.tests_size());
  for (int t = 0; t < suite.tests_size(); ++t) {
    if (!suite.tests(t).cases().empty()) continue;
    TANREN_ASSIGN_OR_RETURN(measures[t], SuiteMeasure::Open(suite.tests(t), model));
  }
  return measures;
}

absl::Status Prepare(const config::SuiteConfig& suite, SuiteResult* result, Cases* cases) {
  TANREN_RETURN_IF_ERROR(CheckCheckers(suite));
  TANREN_ASSIGN_OR_RETURN(*cases, ReadAllCases(suite));
  for (int t = 0; t < suite.tests_size(); ++t) {
    TestResult& test = result->tests.emplace_back();
    test.test = &suite.tests(t);
    test.cases = (*cases)[t];
  }
  return CheckGatesAgainstCases(suite, result->tests);
}

// The test and the strategy of a traced part, as the suite has them now.
absl::StatusOr<std::pair<const config::TestConfig*, Strategy>> FindTraced(const config::SuiteConfig& suite,
                                                                          const TracedPart& traced) {
  for (const config::TestConfig& test : suite.tests()) {
    if (test.name() != traced.test) continue;
    for (const config::StrategyConfig& strategy : test.strategies()) {
      if (strategy.name() == traced.strategy) {
        return std::pair(&test, ResolveStrategy(suite, test, strategy));
      }
    }
  }
  return InvalidInput("%s: the suite has no test %s with a strategy %s", traced.path, traced.test,
                      traced.strategy);
}

}  // namespace

absl::StatusOr<SuiteResult> RunSuite(Runtime& runtime, const config::SuiteConfig& suite,
                                     const std::string& trace_directory) {
  SuiteResult result;
  result.suite = &suite;
  Cases cases;
  TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "suite", Prepare(suite, &result, &cases)));
  TANREN_ASSIGN_OR_RETURN(const std::unique_ptr<Bound> bound, Bind(runtime, suite, cases));
  result.checkpoint = bound->model.path;
  auto measures = OpenMeasures(suite, bound->model);
  TANREN_RETURN_IF_ERROR(AgreeStatus(runtime.world(), "data", measures.status()));
  const Trace trace(trace_directory);
  Runner runner(OptionsOf(runtime, suite, trace, bound.get()));
  for (int t = 0; t < suite.tests_size(); ++t) {
    TestResult& test = result.tests[t];
    if ((*measures)[t].has_value()) {
      TANREN_ASSIGN_OR_RETURN(test.figures, (*measures)[t]->Measure(*bound->model.engine));
    }
    for (const config::StrategyConfig& config : suite.tests(t).strategies()) {
      Strategy strategy = ResolveStrategy(suite, suite.tests(t), config);
      TANREN_ASSIGN_OR_RETURN(StrategyRecord record, runner.Run(suite.tests(t), test.cases, strategy));
      test.strategies.push_back({std::move(strategy), std::move(record)});
    }
  }
  return result;
}

absl::StatusOr<bool> ReplaySuite(Runtime& runtime, const config::SuiteConfig& suite,
                                 const std::string& trace_directory, const std::string& part) {
  Comm& world = runtime.world();
  const absl::StatusOr<std::vector<TracedPart>> parts = FindTracedParts(trace_directory, part);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "trace", parts.status()));
  std::unique_ptr<Bound> bound;
  if (NeedsModel(parts->front().part)) {
    const absl::StatusOr<Cases> cases = ReadAllCases(suite);
    TANREN_RETURN_IF_ERROR(AgreeStatus(world, "cases", cases.status()));
    TANREN_ASSIGN_OR_RETURN(bound, Bind(runtime, suite, *cases));
  }
  const Trace none("");
  bool same = true;
  for (const TracedPart& one : *parts) {
    const auto found = FindTraced(suite, one);
    const absl::StatusOr<std::vector<TraceLine>> lines = ReadTrace(one.path);
    absl::Status read = found.status();
    read.Update(lines.status());
    TANREN_RETURN_IF_ERROR(AgreeStatus(world, "trace", read));
    // A runner for each: answers that were drawn for one strategy say nothing of another's replay.
    Runner runner(OptionsOf(runtime, suite, none, bound.get()));
    const auto outputs = runner.Replay(*found->first, found->second, one.part, *lines);
    TANREN_RETURN_IF_ERROR(AgreeStatus(world, "replay", At(one.path, outputs.status())));
    const ReplayReport report = CompareTrace(*lines, *outputs);
    same = same && report.different == 0;
    if (world.rank() != 0) continue;
    std::printf("%s/%s/%s: %lld lines, %s\n", one.test.c_str(), one.strategy.c_str(), one.part.c_str(),
                static_cast<long long>(report.lines),
                report.different == 0
                    ? "the same"
                    : absl::StrCat(report.different, " different; the first: ", report.first).c_str());
  }
  std::fflush(stdout);
  return same;
}

}  // namespace tanren
