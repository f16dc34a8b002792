#include "core/report/json_lines.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/status.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

// Reads a file front to back, line by line.
class LineReader {
 public:
  explicit LineReader(const AppendFile& file) : file_(file), buffer_(1 << 20) {}

  // False at the end of the file. `line` is without its newline; `ended` says whether it had one.
  absl::StatusOr<bool> Next(std::string* line, bool* ended) {
    line->clear();
    *ended = false;
    for (;;) {
      if (position_ == filled_) {
        TANREN_ASSIGN_OR_RETURN(filled_,
                                file_.ReadAt(offset_, buffer_.data(), static_cast<int64_t>(buffer_.size())));
        position_ = 0;
        offset_ += filled_;
        if (filled_ == 0) return !line->empty();
      }
      const char* begin = buffer_.data() + position_;
      const char* end = std::find(begin, static_cast<const char*>(buffer_.data()) + filled_, '\n');
      line->append(begin, end);
      position_ = end - buffer_.data();
      if (position_ < filled_) {
        ++position_;
        *ended = true;
        return true;
      }
    }
  }

 private:
  const AppendFile& file_;
  std::vector<char> buffer_;
  int64_t offset_ = 0, position_ = 0, filled_ = 0;
};

// The step of a whole, sound line.
std::optional<int64_t> StepOf(const std::string& line) {
  const nlohmann::json object = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return std::nullopt;
  const auto step = object.find("step");
  if (step == object.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<int64_t>();
}

}  // namespace

absl::StatusOr<JsonLinesFile> JsonLinesFile::Open(const std::string& path, int64_t resumed_step) {
  TANREN_ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path));
  LineReader reader(file);
  std::string line;
  bool ended = true, last_kept_ended = true, cutting = false;
  int64_t offset = 0, kept_bytes = 0, lines_after_kept = 0;
  for (;;) {
    TANREN_ASSIGN_OR_RETURN(const bool any, reader.Next(&line, &ended));
    if (!any) break;
    offset += static_cast<int64_t>(line.size()) + (ended ? 1 : 0);
    ++lines_after_kept;
    if (cutting) continue;
    const std::optional<int64_t> step = StepOf(line);
    if (!step.has_value()) continue;
    cutting = *step > resumed_step;
    if (cutting) continue;
    kept_bytes = offset;
    last_kept_ended = ended;
    lines_after_kept = 0;
  }
  if (kept_bytes < file.bytes()) TANREN_RETURN_IF_ERROR(file.Truncate(kept_bytes));
  if (!last_kept_ended) TANREN_RETURN_IF_ERROR(file.Append("\n"));
  return JsonLinesFile(std::move(file), lines_after_kept);
}

absl::Status JsonLinesFile::Append(std::string_view object) {
  TANREN_CHECK(object.find('\n') == std::string_view::npos);
  std::string line(object);
  line += '\n';
  return file_.Append(line);
}

}  // namespace tanren
