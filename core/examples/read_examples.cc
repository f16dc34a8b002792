#include "core/examples/read_examples.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "core/base/status.h"
#include "core/corpus/input_stream.h"

namespace tanren {
namespace {

constexpr size_t kReportedLines = 10;

bool IsBlank(std::string_view line) { return line.find_first_not_of(" \t\r\n") == std::string_view::npos; }

void AddDamage(const std::string& place, const absl::Status& status, ExampleReport* report) {
  const std::string_view message = View(status.message());
  ++report->damaged;
  // Errors of ParseExample begin with their reason.
  ++report->reasons[std::string(message.substr(0, message.find(": ")))];
  if (report->examples.size() < kReportedLines)
    report->examples.push_back(absl::StrCat(place, ": ", View(message)));
}

absl::Status CheckReport(const std::string& path, double max_damaged_fraction, const ExampleReport& report) {
  const auto lines = static_cast<double>(report.lines);
  std::string message;
  if (static_cast<double>(report.damaged) > max_damaged_fraction * lines) {
    message = absl::StrFormat(
        "%s: %d of %d lines are no example, more than the fraction %g that is allowed; mend them, or "
        "raise the fraction (data.max_damaged of a run)",
        path, report.damaged, report.lines, max_damaged_fraction);
  } else if (report.damaged == report.lines) {
    message = absl::StrFormat("%s: the file holds no example", path);
  } else {
    return absl::OkStatus();
  }
  for (const std::string& example : report.examples) absl::StrAppend(&message, "\n  ", example);
  return absl::InvalidArgumentError(message);
}

}  // namespace

std::string ExampleReport::ToString() const {
  std::string text = absl::StrCat(lines - damaged, " examples");
  const char* separator = " (";
  for (const auto& [format, count] : formats) {
    absl::StrAppend(&text, separator, count, " ", format);
    separator = ", ";
  }
  if (!formats.empty()) text += ")";
  if (damaged == 0) return text;
  absl::StrAppend(&text, "; ", damaged, " of ", lines, " lines left out (");
  separator = "";
  for (const auto& [reason, count] : reasons) {
    absl::StrAppend(&text, separator, count, " ", reason);
    separator = ", ";
  }
  absl::StrAppend(&text, "), such as ", examples.empty() ? "" : examples.front());
  return text;
}

absl::StatusOr<std::vector<Example>> ReadExamples(const std::string& path, const ExampleOptions& options,
                                                  ExampleReport* report) {
  *report = {};
  if (std::error_code error; !std::filesystem::exists(path, error)) {
    return absl::NotFoundError(absl::StrCat(path, ": there is no such file of examples; check the path"));
  }
  TANREN_ASSIGN_OR_RETURN(std::unique_ptr<InputStream> stream, InputStream::Open(path));
  LineReader lines(std::move(stream), options.line_limit_bytes);
  std::vector<Example> examples;
  LineReader::Line line;
  while (true) {
    TANREN_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    if (!line.too_long && IsBlank(line.text)) continue;
    ++report->lines;
    const std::string place = absl::StrCat(path, ":", line.number);
    if (line.too_long) {
      AddDamage(place, InvalidInput("line too long: more than %d bytes", options.line_limit_bytes), report);
      continue;
    }
    absl::StatusOr<Example> example = ParseExample(line.text, options.format);
    if (!example.ok()) {
      AddDamage(place, example.status(), report);
      continue;
    }
    ++report->formats[NameOf(example->format)];
    example->source = place;
    examples.push_back(*std::move(example));
  }
  TANREN_RETURN_IF_ERROR(CheckReport(path, options.max_damaged_fraction, *report));
  return examples;
}

}  // namespace tanren
