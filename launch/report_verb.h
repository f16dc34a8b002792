// tanren report: what a run has reached.
#ifndef TANREN_LAUNCH_REPORT_VERB_H_
#define TANREN_LAUNCH_REPORT_VERB_H_

#include <cstdint>
#include <string>

namespace tanren {

struct ReportOptions {
  std::string run;         // a run directory
  std::string stage;       // --stage: the name of the row; empty: the directory's
  int64_t from_step = 0;   // --from-step: count steps and tokens after this one
  int64_t to_step = -1;    // --to-step: the figures as of this step; -1: the last
  double seconds = -1;     // --seconds that the stage took; below 0: unknown
  std::string evaluation;  // --evaluation: a file of `tanren eval --summary`, for the accuracy
  std::string summary;     // --summary: also set the row in this summary.json
};

// Prints the row of the run, or with --summary the whole table. Exit code 0 or 2.
int Report(const ReportOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_REPORT_VERB_H_
