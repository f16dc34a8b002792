// Gathers what `tanren report` says about a run, or about the stages of a home.
#ifndef TANREN_LAUNCH_REPORT_PAGE_H_
#define TANREN_LAUNCH_REPORT_PAGE_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/report/html_page.h"

namespace tanren {

// The run directories that `directory` stands for: itself, or those of a home of several stages. NotFound
// where there is none.
absl::StatusOr<std::vector<std::string>> RunsOf(const std::string& directory);

// Reads all of `runs`, which are those of `directory`. Their rows are those of the home's summary.json where
// it has them, else from their metrics and the evaluation beside them (NAME.json). Runs come in the order of
// their first start.
ReportPage GatherReport(const std::string& directory, const std::vector<std::string>& runs);

// Sets the accuracies of a row from a file of `tanren eval --summary`. NotFound where it cannot be read,
// InvalidArgument where it has no number "accuracy".
absl::Status AddEvaluation(const std::string& path, StageSummary* stage);

}  // namespace tanren

#endif  // TANREN_LAUNCH_REPORT_PAGE_H_
