// A table of HTML cells.
#ifndef TANREN_CORE_REPORT_HTML_TABLE_H_
#define TANREN_CORE_REPORT_HTML_TABLE_H_

#include <string>
#include <string_view>
#include <vector>

namespace tanren {

class HtmlTable {
 public:
  // One letter for each column: l (text), r (figures, to the right), t (long text that keeps its line
  // breaks). Titles are plain text.
  HtmlTable(std::string_view columns, std::vector<std::string> titles)
      : columns_(columns), titles_(std::move(titles)) {}

  // Cells are HTML, one for each column.
  void Add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  bool empty() const { return rows_.empty(); }

  // Columns of figures in which every row has "" are left out.
  std::string Render() const;

 private:
  std::string columns_;
  std::vector<std::string> titles_;
  std::vector<std::vector<std::string>> rows_;
};

// <details> with a summary line (plain text) around HTML.
std::string HtmlDetails(std::string_view summary, std::string_view content, bool open = false);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_HTML_TABLE_H_
