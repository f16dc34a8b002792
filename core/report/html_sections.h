// The sections of one run on the page.
#ifndef TANREN_CORE_REPORT_HTML_SECTIONS_H_
#define TANREN_CORE_REPORT_HTML_SECTIONS_H_

#include <string>

#include "core/report/run_contents.h"

namespace tanren {

// Everything about the run below its heading: figures, notes, gates, curves, samples, wrong answers,
// warnings, starts, checkpoints, configuration, environment. What a run has not is left out.
std::string HtmlRun(const RunContents& run);

// "finished" with a class that colours it; HTML.
std::string HtmlState(const std::string& state);

// One row for each run and a column for each figure that one of them has; names lead to "#s0", "#s1", ..
std::string HtmlOverview(const std::vector<RunContents>& runs);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_SECTIONS_H_
