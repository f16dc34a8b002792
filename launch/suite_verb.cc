#include "launch/suite_verb.h"

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <memory>

#include "core/base/status.h"
#include "core/config/config.h"
#include "core/evaluation/report.h"
#include "core/evaluation/suite.h"
#include "core/tokenizer/files.h"
#include "launch/suite_run.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

absl::Status CheckOptions(const SuiteOptions& options) {
  if (options.replay.empty() != options.part.empty()) {
    return InvalidInput("--replay and --part go together: a trace, and the part of it to run again");
  }
  if (!options.replay.empty() && !options.trace.empty()) {
    return InvalidInput("--trace and --replay: a replay writes no trace; leave one out");
  }
  return absl::OkStatus();
}

// What cannot be written is said before the work, not after it.
absl::Status PrepareOut(const std::string& out) {
  if (out.empty()) return absl::OkStatus();
  TANREN_RETURN_IF_ERROR(At("out", MakeDirectories(out)));
  for (const char* name : {"summary.json", "samples.jsonl"}) {
    const std::string path = absl::StrCat(out, "/", name);
    if (!std::ofstream(path, std::ios::app)) return InvalidInput("out: cannot write %s", path);
  }
  return absl::OkStatus();
}

absl::Status Write(const SuiteResult& result, const std::vector<GateResult>& gates) {
  const std::string& out = result.suite->out();
  if (out.empty()) return absl::OkStatus();
  std::string samples;
  for (const OrderedJson& line : SampleLinesOf(result)) absl::StrAppend(&samples, DumpJson(line), "\n");
  TANREN_RETURN_IF_ERROR(WriteSmallFile(out + "/samples.jsonl", samples));
  const std::string summary =
      SummaryOf(result, gates).dump(2, ' ', false, OrderedJson::error_handler_t::replace);
  return WriteSmallFile(out + "/summary.json", summary + "\n");
}

// On rank 0: prints and writes. Says whether all gates were passed.
absl::StatusOr<bool> Report(const SuiteResult& result) {
  const std::vector<GateResult> gates = JudgeGates(result);
  std::fputs(TableOf(result).c_str(), stdout);
  const auto failed = [](const GateResult& gate) { return !gate.passed; };
  const long long count = std::ranges::count_if(gates, failed);
  for (const GateResult& gate : gates) {
    if (failed(gate)) std::printf("%s\n", gate.ToString().c_str());
  }
  if (!gates.empty()) std::printf("%lld of %zu gates failed\n", count, gates.size());
  std::fflush(stdout);
  TANREN_RETURN_IF_ERROR(Write(result, gates));
  return count == 0;
}

absl::StatusOr<int> Run(Runtime& runtime, const SuiteOptions& options) {
  Comm& world = runtime.world();
  const absl::StatusOr<config::SuiteConfig> suite = LoadSuite(options.suite, options.overrides);
  absl::Status ready = CheckOptions(options);
  ready.Update(suite.status());
  if (ready.ok() && world.rank() == 0 && options.replay.empty()) ready = PrepareOut(suite->out());
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "suite", ready));
  if (!options.replay.empty()) {
    TANREN_ASSIGN_OR_RETURN(const bool same, ReplaySuite(runtime, *suite, options.replay, options.part));
    return same ? kExitDone : kExitFailed;
  }
  TANREN_ASSIGN_OR_RETURN(const SuiteResult result, RunSuite(runtime, *suite, options.trace));
  absl::StatusOr<bool> passed = true;
  if (world.rank() == 0) passed = Report(result);
  TANREN_RETURN_IF_ERROR(AgreeStatus(world, "report", passed.status()));
  // Seconds are each rank's own, so the gates are rank 0's to judge.
  return BroadcastString(world, "gates", *passed ? "" : "failed", 0).empty() ? kExitDone : kExitGateFailed;
}

}  // namespace

int EvalSuite(const SuiteOptions& options) {
  const absl::StatusOr<std::unique_ptr<Runtime>> runtime = Runtime::Start();
  if (!runtime.ok()) return StatusExit(runtime.status());
  const absl::StatusOr<int> code = Run(**runtime, options);
  return code.ok() ? *code : StatusExit(code.status());
}

int SuiteValidate(const std::string& path, const std::vector<std::string>& overrides) {
  const absl::StatusOr<config::SuiteConfig> suite = LoadSuite(path, overrides);
  if (!suite.ok()) return StatusExit(suite.status());
  std::printf("%s: valid, %d tests, %d gates\n", path.c_str(), suite->tests_size(), suite->gates_size());
  return kExitDone;
}

int SuiteSchema() {
  std::fputs(config::JsonSchema(config::SuiteConfig::descriptor(), "Tanren evaluation suite").c_str(),
             stdout);
  return kExitDone;
}

int SuiteTable() {
  std::fputs(config::MarkdownTable(config::SuiteConfig::descriptor()).c_str(), stdout);
  return kExitDone;
}

}  // namespace tanren
