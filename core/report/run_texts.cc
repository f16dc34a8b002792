#include "core/report/run_texts.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "core/checkpoint/file_system.h"
#include "core/config/text.h"
#include "core/corpus/input_stream.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

constexpr int64_t kMaxLineBytes = 1 << 20;
constexpr size_t kMaxSteps = 24;
constexpr size_t kMaxPerStep = 8;
constexpr size_t kMaxWarnings = 100;
constexpr int64_t kMaxLogBytes = 256 << 20;  // of all ranks

// Every line of a file that can be read, without its line feed; nothing for those beyond kMaxLineBytes.
void ForEachLine(const std::string& path, absl::FunctionRef<void(std::optional<std::string_view>)> visit) {
  absl::StatusOr<std::unique_ptr<InputStream>> stream = InputStream::Open(path);
  if (!stream.ok()) return;
  LineReader reader(*std::move(stream), kMaxLineBytes);
  LineReader::Line line;
  for (absl::StatusOr<bool> any = reader.Next(&line); any.ok() && *any; any = reader.Next(&line)) {
    if (line.text.ends_with('\n')) line.text.remove_suffix(1);
    visit(line.too_long ? std::nullopt : std::optional(line.text));
  }
}

std::string TextIn(const nlohmann::json& object, const char* key) {
  const auto member = object.find(key);
  return member != object.end() && member->is_string() ? member->get<std::string>() : "";
}

// Samples by step, of which every second step is dropped whenever there are too many.
class Thinned {
 public:
  void Add(LoggedSample sample) {
    if (steps_.empty() || steps_.back().front().step != sample.step) NewStep();
    if (steps_.back().size() < kMaxPerStep) steps_.back().push_back(std::move(sample));
  }

  std::vector<LoggedSample> Take() {
    std::vector<LoggedSample> out;
    for (std::vector<LoggedSample>& step : steps_) {
      out.insert(out.end(), std::make_move_iterator(step.begin()), std::make_move_iterator(step.end()));
    }
    return out;
  }

 private:
  // The newest step always stays until the next one comes; then it stays if it is one of every stride_.
  void NewStep() {
    if (!steps_.empty() && (seen_ - 1) % stride_ != 0) steps_.pop_back();
    if (steps_.size() == kMaxSteps) {
      for (size_t i = 0; i < kMaxSteps / 2; ++i) steps_[i] = std::move(steps_[2 * i]);
      steps_.resize(kMaxSteps / 2);
      stride_ *= 2;
    }
    steps_.emplace_back();
    ++seen_;
  }

  std::vector<std::vector<LoggedSample>> steps_;
  int64_t seen_ = 0, stride_ = 1;
};

// "2026-11-22T04:54:06.123Z W text", where it is a warning or an error.
std::optional<LoggedWarning> WarningOf(std::string_view line) {
  constexpr size_t kTimeBytes = 24;
  if (line.size() < kTimeBytes + 3 || line[kTimeBytes] != ' ' || line[kTimeBytes + 2] != ' ') return {};
  const char severity = line[kTimeBytes + 1];
  if (severity != 'W' && severity != 'E') return {};
  return LoggedWarning{0, severity, std::string(line.substr(0, kTimeBytes)),
                       std::string(line.substr(kTimeBytes + 3))};
}

// rank_00003.log and rank_00003.log.1, the older one first; by rank.
std::vector<std::pair<int, std::string>> LogFiles(const std::string& directory) {
  std::vector<std::pair<int, std::string>> files;
  const absl::StatusOr<Directory> logs = Directory::Open(directory);
  if (!logs.ok()) return files;
  const absl::StatusOr<std::vector<std::string>> names = logs->List();
  if (!names.ok()) return files;
  for (const std::string& name : *names) {
    int rank = 0, end = 0;
    if (std::sscanf(name.c_str(), "rank_%9d.log%n", &rank, &end) != 1 || end == 0) continue;
    const std::string rest = name.substr(end);
    if (rest.empty() || rest == ".1") files.emplace_back(rank, absl::StrCat(directory, "/", name));
  }
  return files;
}

}  // namespace

void ReadSamples(RunContents* out) {
  Thinned samples;
  int64_t damaged = 0;
  ForEachLine(out->directory + "/samples.jsonl", [&](std::optional<std::string_view> line) {
    if (line.has_value() && line->empty()) return;
    const nlohmann::json object = line.has_value()
                                      ? nlohmann::json::parse(*line, nullptr, /*allow_exceptions=*/false)
                                      : nlohmann::json();
    if (!object.is_object()) {
      ++damaged;
      return;
    }
    const auto step = object.find("step");
    if (step == object.end() || !step->is_number_integer()) return;
    ++out->all_samples;
    samples.Add({step->get<int64_t>(), TextIn(object, "prompt"), TextIn(object, "completion")});
  });
  out->samples = samples.Take();
  if (damaged > 0) out->notes.push_back(absl::StrCat("samples.jsonl: damaged lines passed over: ", damaged));
}

void ReadWarnings(RunContents* out) {
  int64_t bytes = 0, left_out = 0;
  for (const auto& [rank, path] : LogFiles(out->directory + "/logs")) {
    std::error_code error;
    const uintmax_t size = std::filesystem::file_size(path, error);
    if (error || bytes + static_cast<int64_t>(size) > kMaxLogBytes) {
      ++left_out;
      continue;
    }
    bytes += static_cast<int64_t>(size);
    ForEachLine(path, [&, rank = rank](std::optional<std::string_view> line) {
      std::optional<LoggedWarning> warning = line.has_value() ? WarningOf(*line) : std::nullopt;
      if (!warning.has_value()) return;
      ++out->all_warnings;
      warning->rank = rank;
      out->warnings.push_back(*std::move(warning));
      if (out->warnings.size() < 2 * kMaxWarnings) return;
      std::ranges::stable_sort(out->warnings, {}, &LoggedWarning::time);
      out->warnings.resize(kMaxWarnings);
    });
  }
  std::ranges::stable_sort(out->warnings, {}, &LoggedWarning::time);
  if (out->warnings.size() > kMaxWarnings) out->warnings.resize(kMaxWarnings);
  if (left_out > 0) out->notes.push_back(absl::StrCat("logs: files left out, for their size: ", left_out));
}

}  // namespace tanren
