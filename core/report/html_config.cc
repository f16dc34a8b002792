#include "core/report/html_config.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/config/config.h"
#include "core/report/html_escape.h"
#include "core/report/html_table.h"

namespace tanren {
namespace {

constexpr size_t kMaxLines = 5000;

// Follows the lines of a config and says which key each one sets: "schedule.kind"; in lists
// "data.train.-.path".
class KeyOfLine {
 public:
  // Of "    kind: cosine" the key's path; *value becomes "cosine".
  std::string Next(std::string_view line, std::string_view* value) {
    const size_t indent = std::min(line.find_first_not_of(' '), line.size());
    std::string_view text = line.substr(indent);
    while (!open_.empty() && open_.back().first >= indent) open_.pop_back();
    const bool is_element = text.starts_with("- ");
    if (is_element) text.remove_prefix(2);
    const size_t colon = text.find(':');
    std::string path = open_.empty() ? "" : open_.back().second;
    absl::StrAppend(&path, path.empty() ? "" : ".", is_element ? "-." : "", View(text.substr(0, colon)));
    *value = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
    if (!is_element) {
      open_.emplace_back(indent, path);
    } else if (const size_t dot = path.rfind('.'); dot != std::string::npos) {
      open_.emplace_back(indent, path.substr(0, dot));  // the element's other keys stand two deeper
    }
    return path;
  }

 private:
  std::vector<std::pair<size_t, std::string>> open_;  // indent and path of the lines around
};

std::vector<std::string> LinesOf(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  return absl::StrSplit(View(text), '\n');
}

}  // namespace

std::vector<ConfigLine> CompareConfig(std::string_view yaml, std::string_view defaults) {
  std::map<std::string, std::string> known;
  std::string_view value;
  KeyOfLine default_keys, keys;
  for (const std::string& line : LinesOf(defaults)) {
    const std::string path = default_keys.Next(line, &value);
    known.emplace(path, value);
  }
  std::vector<ConfigLine> out;
  for (const std::string& line : LinesOf(yaml)) {
    if (out.size() == kMaxLines) {
      out.push_back({"...", false});
      break;
    }
    const std::string path = keys.Next(line, &value);
    const auto found = known.find(path);
    const bool is_heading = value.empty() && line.ends_with(':') && found == known.end();
    out.push_back({line, !is_heading && (found == known.end() || found->second != value)});
  }
  return out;
}

std::string HtmlConfig(std::string_view yaml) {
  if (yaml.empty()) return "";
  std::string text;
  int64_t different = 0;
  for (const ConfigLine& line :
       CompareConfig(yaml, config::ToYaml(config::Config(), /*with_defaults=*/true))) {
    const std::string shown = HtmlText(line.text);
    different += line.differs ? 1 : 0;
    absl::StrAppend(&text, line.differs ? "<mark>" : "", shown, line.differs ? "</mark>" : "", "\n");
  }
  return HtmlDetails(absl::StrCat("Configuration: ", different, " lines differ from the defaults"),
                     absl::StrCat("<pre class=\"yaml\">", text, "</pre>"));
}

}  // namespace tanren
