// tanren report: what a run, or a home of several stages, has reached, as a table and as a page.
#ifndef TANREN_LAUNCH_REPORT_VERB_H_
#define TANREN_LAUNCH_REPORT_VERB_H_

#include <cstdint>
#include <string>

namespace tanren {

struct ReportOptions {
  std::string run;         // a run directory, or one that holds those of several stages
  std::string html;        // --html: where the page is written; empty: RUN/report.html
  std::string stage;       // --stage: the name of the row; empty: the directory's
  int64_t from_step = 0;   // --from-step: count steps and tokens after this one
  int64_t to_step = -1;    // --to-step: the figures as of this step; -1: the last
  double seconds = -1;     // --seconds that the stage took; below 0: unknown
  std::string evaluation;  // --evaluation: a file of `tanren eval --summary`, for the accuracy
  std::string summary;     // --summary: also set the row in this summary.json

  // Whether one of the options that speak of a single row is set.
  bool names_a_row() const {
    return !stage.empty() || from_step > 0 || to_step >= 0 || seconds >= 0 || !evaluation.empty() ||
           !summary.empty();
  }
};

// Prints the row of each run, or with --summary the whole table of that file, and writes the page. With
// --summary the page is only written where --html asks for it. Exit code 0 or 2.
int Report(const ReportOptions& options);

}  // namespace tanren

#endif  // TANREN_LAUNCH_REPORT_VERB_H_
