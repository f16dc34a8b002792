// A resolved configuration with what differs from the defaults marked.
#ifndef TANREN_CORE_REPORT_HTML_CONFIG_H_
#define TANREN_CORE_REPORT_HTML_CONFIG_H_

#include <string>
#include <string_view>
#include <vector>

namespace tanren {

struct ConfigLine {
  std::string text;      // as in the file
  bool differs = false;  // from the line of the same key in `defaults`, or there is none
};

// The lines of a resolved.yaml, compared with config::ToYaml of a config in which nothing is set. What is
// derived from other keys (schedule.decay_steps) differs too; headings of sections never do. No error: a line
// that is not as that function writes it counts as different.
std::vector<ConfigLine> CompareConfig(std::string_view yaml, std::string_view defaults);

// <details> with the whole file; "" of an empty one.
std::string HtmlConfig(std::string_view yaml);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_CONFIG_H_
