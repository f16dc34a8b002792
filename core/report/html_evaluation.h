// Evaluations on the page: gates, figures, wrong answers.
#ifndef TANREN_CORE_REPORT_HTML_EVALUATION_H_
#define TANREN_CORE_REPORT_HTML_EVALUATION_H_

#include <string>
#include <vector>

#include "core/report/evaluation_log.h"

namespace tanren {

// Headings are of level `level`, 2 to 5.
std::string HtmlEvaluation(const EvaluationLog& log, int level);

// "2/3" of the gates with a sign, for a cell; "" where there are none.
std::string HtmlGateCount(const std::vector<EvaluationLog>& logs);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_EVALUATION_H_
