#include "launch/report_verb.h"

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

#include "core/base/status.h"
#include "core/report/append_file.h"
#include "core/report/html_page.h"
#include "core/report/run_figures.h"
#include "core/report/summary.h"
#include "core/report/units.h"
#include "launch/report_page.h"
#include "parallel/runtime/runtime.h"

namespace tanren {
namespace {

// The row that the options describe.
absl::StatusOr<StageSummary> StageOf(const ReportOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const RunFigures figures, ReadRunFigures(options.run, options.to_step));
  StageSummary stage = SummaryOfRun(options.stage, figures);
  if (options.stage.empty()) {
    stage.name = std::filesystem::path(options.run + "/").parent_path().filename().string();
  }
  if (options.from_step > 0) {
    TANREN_ASSIGN_OR_RETURN(const RunFigures before, ReadRunFigures(options.run, options.from_step));
    stage.steps -= before.step;
    stage.tokens -= before.tokens;
  }
  if (options.seconds >= 0) stage.seconds = options.seconds;
  if (!options.evaluation.empty()) {
    TANREN_RETURN_IF_ERROR(AddEvaluation(options.evaluation, &stage));
  }
  return stage;
}

void Print(const std::vector<StageSummary>& rows) {
  if (!rows.empty()) std::fputs(FormatSummary(rows).c_str(), stdout);
  std::fflush(stdout);
}

absl::Status SetSummary(const ReportOptions& options) {
  TANREN_ASSIGN_OR_RETURN(const StageSummary stage, StageOf(options));
  TANREN_RETURN_IF_ERROR(UpdateSummary(options.summary, stage));
  TANREN_ASSIGN_OR_RETURN(const std::vector<StageSummary> rows, ReadSummary(options.summary));
  Print(rows);
  return absl::OkStatus();
}

absl::Status WritePage(const ReportOptions& options, bool with_table) {
  TANREN_ASSIGN_OR_RETURN(const std::vector<std::string> runs, RunsOf(options.run));
  const bool is_home = runs.size() > 1;
  if (is_home && options.names_a_row()) {
    return InvalidInput(
        "%s holds %d runs, and --stage, --from-step, --to-step, --seconds, --evaluation and --summary are "
        "about one: "
        "name one of them, such as %s",
        options.run, runs.size(), runs[0]);
  }
  ReportPage page = GatherReport(options.run, runs);
  if (options.names_a_row()) {
    ReportOptions row = options;
    row.run = runs[0];
    TANREN_ASSIGN_OR_RETURN(page.runs[0].summary, StageOf(row));
  }
  std::vector<StageSummary> rows;
  for (const RunContents& run : page.runs) {
    if (run.has_metrics) rows.push_back(run.summary);
  }
  if (with_table) Print(rows);
  const std::string path = options.html.empty() ? page.title + "/report.html" : options.html;
  const std::string html = RenderPage(page);
  TANREN_RETURN_IF_ERROR(At(options.html.empty() ? "the page (--html FILE writes it elsewhere)" : "--html",
                            ReplaceSmallFile(path, html)));
  std::printf("wrote %s (%s)\n", path.c_str(), FormatBytes(static_cast<double>(html.size())).c_str());
  std::fflush(stdout);
  return absl::OkStatus();
}

absl::Status RunReport(const ReportOptions& options) {
  if (options.summary.empty()) return WritePage(options, /*with_table=*/true);
  TANREN_RETURN_IF_ERROR(SetSummary(options));
  return options.html.empty() ? absl::OkStatus() : WritePage(options, /*with_table=*/false);
}

}  // namespace

int Report(const ReportOptions& options) { return StatusExit(RunReport(options)); }

}  // namespace tanren
