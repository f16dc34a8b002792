// One self-contained HTML page about a run, or about the stages of a home: no file, font or address outside
// it is named, and its policy (Content-Security-Policy) forbids all but its own style and script.
#ifndef TANREN_CORE_REPORT_HTML_PAGE_H_
#define TANREN_CORE_REPORT_HTML_PAGE_H_

#include <string>
#include <vector>

#include "core/report/run_contents.h"

namespace tanren {

struct ReportPage {
  std::string title;                       // the directory
  std::vector<RunContents> runs;           // in the order in which they are shown
  std::vector<EvaluationLog> evaluations;  // that belong to no single run
};

// The same contents give the same bytes.
std::string RenderPage(const ReportPage& page);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_PAGE_H_
