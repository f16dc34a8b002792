#include "core/pipeline/stage_record.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/config/small_file.h"
#include "core/config/text.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

constexpr size_t kMaxRecordBytes = 1 << 16;
constexpr char kBegins[] = ": begins";  // the script's first words
constexpr int64_t kTailBytes = 1 << 16;

std::string TextIn(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

int64_t NumberIn(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && member->is_number_integer() ? member->get<int64_t>() : 0;
}

bool SpeaksOfAnError(absl::string_view line) {
  return line.find("error:") != absl::string_view::npos ||
         line.find("gate failed") != absl::string_view::npos || line.find("fatal") != absl::string_view::npos;
}

}  // namespace

std::optional<StageRecord> ReadStageRecord(const std::string& directory) {
  std::string text;
  if (!config::ReadSmallFile(directory + "/stage.json", kMaxRecordBytes, &text).empty()) return std::nullopt;
  const nlohmann::json object = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return std::nullopt;
  StageRecord record;
  record.state = TextIn(object, "state");
  record.exit_code = static_cast<int>(NumberIn(object, "exit_code"));
  record.hash = TextIn(object, "hash");
  record.job = TextIn(object, "job");
  record.host = TextIn(object, "host");
  record.process = NumberIn(object, "process");
  record.restarts = NumberIn(object, "restarts");
  record.time = TextIn(object, "time");
  if (record.state.empty()) return std::nullopt;
  return record;
}

std::string ReadJobId(const std::string& directory) {
  std::string text;
  if (!config::ReadSmallFile(directory + "/job.id", 256, &text).empty()) return "";
  while (!text.empty() && text.back() == '\n') text.pop_back();
  const bool plain =
      std::ranges::all_of(text, [](unsigned char c) { return std::isalnum(c) != 0 || c == '_'; });
  return plain ? text : "";
}

std::string LastErrorLine(const std::string& directory) {
  const std::string path = directory + "/job.log";
  std::error_code error_code;
  if (!std::filesystem::is_regular_file(path, error_code)) return "";
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  if (!file) return "";
  const int64_t size = file.tellg();
  file.seekg(std::max<int64_t>(size - kTailBytes, 0));
  std::string tail(static_cast<size_t>(std::min(size, kTailBytes)), '\0');
  file.read(tail.data(), static_cast<std::streamsize>(tail.size()));
  absl::string_view last, error;
  for (const absl::string_view line : absl::StrSplit(tail, '\n', absl::SkipWhitespace())) {
    last = line;
    if (line.find(kBegins) != absl::string_view::npos) error = {};  // of an earlier attempt
    if (SpeaksOfAnError(line)) error = line;
  }
  return config::Printable(View(error.empty() ? last : error), 160);
}

}  // namespace tanren
