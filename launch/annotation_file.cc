#include "launch/annotation_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "core/base/status.h"
#include "core/examples/read_examples.h"
#include "core/tokenizer/files.h"
#include "nlohmann/json.hpp"

namespace tanren {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMaxFileBytes = int64_t{4} << 30;

// The annotator of a record that ParseExample has read.
std::string AnnotatorOf(std::string_view record) {
  const Json json = Json::parse(record, nullptr, /*allow_exceptions=*/false);
  const auto found = json.find("annotator");
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

// The beginning of a record as this program writes them: what a crash in the middle of a write leaves.
bool IsTornRecord(std::string_view line) {
  constexpr std::string_view kBegin = "{\"prompt\":";
  const size_t bytes = std::min(line.size(), kBegin.size());
  return line.substr(0, bytes) == kBegin.substr(0, bytes) && !Json::accept(line);
}

}  // namespace

std::string AnnotationKey(const Example& example) {
  Json key = Json::array();
  for (const Message& message : example.prompt) {
    key.push_back(NameOf(message.role));
    key.push_back(message.content);
  }
  std::vector<std::string> responses = example.responses;
  std::sort(responses.begin(), responses.end());
  key.push_back(responses);
  return key.dump(-1, ' ', false, Json::error_handler_t::replace);
}

absl::StatusOr<AnnotationFile> AnnotationFile::Open(const std::string& path, ExampleFormat format,
                                                    const std::string& annotator) {
  Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666));
  if (file.get() < 0) return ErrnoStatus(errno, "open", path);
  struct stat info;
  if (fstat(file.get(), &info) != 0) return ErrnoStatus(errno, "look at", path);
  if (!S_ISREG(info.st_mode)) return InvalidInput("%s is no regular file", path);
  if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return ErrnoStatus(errno, "lock", path);
    return InvalidInput("%s is in use by another annotation; a file is written by one person at a time",
                        path);
  }
  TANREN_ASSIGN_OR_RETURN(const std::string text, ReadSmallFile(path, kMaxFileBytes));
  AnnotationFile annotations(path, std::move(file), format);
  TANREN_RETURN_IF_ERROR(annotations.ReadLines(text, annotator));
  return annotations;
}

absl::Status AnnotationFile::ReadLines(const std::string& text, const std::string& annotator) {
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    ++number;
    const size_t end = std::min(text.find('\n', begin), text.size());
    const std::string_view line = std::string_view(text).substr(begin, end - begin);
    const std::string place = absl::StrCat(path_, ":", number);
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      const absl::StatusOr<Example> example = ParseExample(line, std::nullopt);
      if (!example.ok() && end == text.size() && IsTornRecord(line)) {
        cut_bytes_ = static_cast<int64_t>(end - begin);
        return CutTo(static_cast<int64_t>(begin));
      }
      if (!example.ok()) return At(place, example.status());
      if (example->format != format_) {
        return InvalidInput("%s: a record of format %s in a file of %s records; give another --out", place,
                            NameOf(example->format), NameOf(format_));
      }
      if (const std::string other = AnnotatorOf(line); other != annotator) {
        return InvalidInput("%s: a decision of annotator %s in the file of annotator %s; give another --out",
                            place, Quoted(other), Quoted(annotator));
      }
      keys_.push_back(AnnotationKey(*example));
      begins_.push_back(static_cast<int64_t>(begin));
    }
    begin = end + 1;
  }
  end_ = static_cast<int64_t>(text.size());
  // A whole record whose line feed an editor left out.
  return text.empty() || text.back() == '\n' ? absl::OkStatus() : Write("\n");
}

absl::Status AnnotationFile::CutTo(int64_t bytes) {
  if (ftruncate(file_.get(), bytes) != 0) return ErrnoStatus(errno, "shorten", path_);
  if (fdatasync(file_.get()) != 0) return ErrnoStatus(errno, "sync", path_);
  end_ = bytes;
  return absl::OkStatus();
}

absl::Status AnnotationFile::Write(std::string_view text) {
  for (size_t written = 0; written < text.size();) {
    const ssize_t bytes = write(file_.get(), text.data() + written, text.size() - written);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) {
      const int error = bytes < 0 ? errno : EIO;
      // Where this fails too, half a line stays, which the next start cuts off.
      [[maybe_unused]] const int shortened = ftruncate(file_.get(), end_);
      return ErrnoStatus(error, "write", path_);
    }
    written += static_cast<size_t>(bytes);
  }
  if (fdatasync(file_.get()) != 0) return ErrnoStatus(errno, "sync", path_);
  end_ += static_cast<int64_t>(text.size());
  return absl::OkStatus();
}

absl::Status AnnotationFile::Append(const std::string& record) {
  const absl::StatusOr<Example> example = ParseExample(record, format_);
  if (!example.ok()) return At("this decision cannot be trained on", example.status());
  const int64_t begin = end_;
  TANREN_RETURN_IF_ERROR(Write(record + "\n"));
  keys_.push_back(AnnotationKey(*example));
  begins_.push_back(begin);
  return absl::OkStatus();
}

absl::Status AnnotationFile::RemoveLast() {
  TANREN_CHECK(!keys_.empty());
  TANREN_RETURN_IF_ERROR(CutTo(begins_.back()));
  keys_.pop_back();
  begins_.pop_back();
  return absl::OkStatus();
}

}  // namespace tanren
