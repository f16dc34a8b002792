#include "core/evaluation/trace.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "core/evaluation/parts.h"
#include "core/tokenizer/files.h"

namespace tanren {
namespace {

constexpr size_t kShownBytes = 300;

std::string Shown(const OrderedJson& json) {
  const std::string text = DumpJson(json);
  return text.size() <= kShownBytes ? text : text.substr(0, kShownBytes) + "...";
}

bool IsPart(const std::string& part) {
  return std::ranges::find(kTracedParts, part, [](const char* name) { return std::string(name); }) !=
         std::end(kTracedParts);
}

}  // namespace

bool NeedsModel(const std::string& part) { return part == "prompt" || part == "sample" || part == "beam"; }

absl::Status Trace::Begin(const std::string& test, const std::string& strategy) const {
  if (!on()) return absl::OkStatus();
  const std::string folder = absl::StrCat(directory_, "/", test, "/", strategy);
  TANREN_RETURN_IF_ERROR(MakeDirectories(folder));
  for (const char* part : kTracedParts) {
    std::error_code error;
    std::filesystem::remove(absl::StrCat(folder, "/", part, ".jsonl"), error);
    if (error) return absl::InternalError(absl::StrCat("--trace: ", folder, ": ", error.message()));
  }
  return absl::OkStatus();
}

absl::Status Trace::Append(const std::string& test, const std::string& strategy, const std::string& part,
                           const std::vector<TraceLine>& lines) const {
  if (!on()) return absl::OkStatus();
  const std::string path = absl::StrCat(directory_, "/", test, "/", strategy, "/", part, ".jsonl");
  std::ofstream out(path, std::ios::app);
  for (const TraceLine& line : lines) {
    out << DumpJson({{"case", line.case_index},
                     {"turn", line.turn},
                     {"input", line.input},
                     {"output", line.output}})
        << "\n";
  }
  if (!out.flush()) return absl::InternalError(absl::StrCat("--trace: cannot write ", path));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<TracedPart>> FindTracedParts(const std::string& directory,
                                                        const std::string& name) {
  const std::filesystem::path wanted(name);
  const std::string part = wanted.filename().string();
  if (!IsPart(part)) {
    return InvalidInput("--part: there is no part %s; use %s", Quoted(part),
                        absl::StrJoin(kTracedParts, ", "));
  }
  std::vector<TracedPart> found;
  std::error_code error;
  for (std::filesystem::recursive_directory_iterator at(directory, error), end; !error && at != end;
       at.increment(error)) {
    const std::filesystem::path path = std::filesystem::relative(at->path(), directory, error);
    std::vector<std::string> names;
    for (const std::filesystem::path& component : path) names.push_back(component.string());
    if (names.size() != 3 || names[2] != part + ".jsonl") continue;
    if (wanted.has_parent_path() && wanted.parent_path() != path.parent_path()) continue;
    found.push_back({names[0], names[1], part, at->path().string()});
  }
  if (error) return absl::NotFoundError(absl::StrCat("--replay: ", directory, ": ", error.message()));
  if (found.empty()) {
    return absl::NotFoundError(absl::StrCat("--replay: ", directory, " holds no trace of part ", name));
  }
  std::ranges::sort(found, {}, &TracedPart::path);
  return found;
}

absl::StatusOr<std::vector<TraceLine>> ReadTrace(const std::string& path) {
  std::ifstream in(path);
  if (!in) return absl::NotFoundError(absl::StrCat("--replay: cannot read ", path));
  std::vector<TraceLine> lines;
  std::string text;
  for (int64_t number = 1; std::getline(in, text); ++number) {
    OrderedJson json = OrderedJson::parse(text, nullptr, /*allow_exceptions=*/false);
    const auto integer = [&](const char* name) {
      return json.contains(name) && json[name].is_number_integer();
    };
    if (!json.is_object() || !integer("case") || !integer("turn") || !json.contains("input") ||
        !json.contains("output")) {
      return InvalidInput("%s:%d: no line of a trace", path, number);
    }
    TraceLine line;
    line.case_index = json["case"].get<int64_t>();
    line.turn = json["turn"].get<int64_t>();
    line.input = std::move(json["input"]);
    line.output = std::move(json["output"]);
    lines.push_back(std::move(line));
  }
  return lines;
}

ReplayReport CompareTrace(const std::vector<TraceLine>& lines, const std::vector<OrderedJson>& outputs) {
  TANREN_CHECK(lines.size() == outputs.size());
  ReplayReport report;
  for (size_t i = 0; i < lines.size(); ++i) {
    ++report.lines;
    if (DumpJson(outputs[i]) == DumpJson(lines[i].output)) continue;
    if (report.different++ > 0) continue;
    report.first = absl::StrCat("case ", lines[i].case_index, ", turn ", lines[i].turn, ": traced ",
                                Shown(lines[i].output), ", now ", Shown(outputs[i]));
  }
  return report;
}

}  // namespace tanren
