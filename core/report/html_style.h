// The style and the script of the page. Neither names anything outside the page.
#ifndef TANREN_CORE_REPORT_HTML_STYLE_H_
#define TANREN_CORE_REPORT_HTML_STYLE_H_

#include <string_view>

namespace tanren {

// Light or dark as the reader's system has it; narrow screens and paper too.
extern const std::string_view kPageStyle;

// Shows step and values at the pointer over a chart. The page is whole without it.
extern const std::string_view kPageScript;

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_STYLE_H_
