#include "core/report/html_table.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "core/base/status.h"
#include "core/report/html_escape.h"

namespace tanren {

std::string HtmlTable::Render() const {
  std::vector<size_t> shown;
  for (size_t c = 0; c < columns_.size(); ++c) {
    const auto filled = [&](const auto& row) { return !row[c].empty(); };
    if (columns_[c] != 'r' || std::ranges::any_of(rows_, filled)) shown.push_back(c);
  }
  const auto tag = [&](const char* name, size_t column) {
    const char kind = columns_[column];
    return kind == 'l' ? absl::StrCat("<", name, ">")
                       : absl::StrCat("<", name, " class=\"", std::string(1, kind), "\">");
  };
  std::string out = "<div class=\"wide\"><table><thead><tr>";
  for (const size_t c : shown) absl::StrAppend(&out, tag("th", c), HtmlText(titles_[c]));
  absl::StrAppend(&out, "</thead><tbody>\n");
  for (const std::vector<std::string>& row : rows_) {
    TANREN_CHECK(row.size() == columns_.size());
    absl::StrAppend(&out, "<tr>");
    for (const size_t c : shown) absl::StrAppend(&out, tag("td", c), row[c].empty() ? "–" : row[c]);
    absl::StrAppend(&out, "\n");
  }
  return absl::StrCat(out, "</tbody></table></div>\n");
}

std::string HtmlDetails(std::string_view summary, std::string_view content, bool open) {
  return absl::StrCat("<details", open ? " open" : "", "><summary>", HtmlText(summary), "</summary>\n",
                      View(content), "</details>\n");
}

}  // namespace tanren
