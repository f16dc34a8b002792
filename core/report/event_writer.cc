#include "core/report/event_writer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "core/checkpoint/checksums.h"
#include "core/config/text.h"
#include "core/report/event.pb.h"
#include "core/report/machine_info.h"

namespace tanren {
namespace {

double WallTimeSeconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

void AppendLittleEndian(uint64_t value, int bytes, std::string* out) {
  for (int i = 0; i < bytes; ++i) out->push_back(static_cast<char>(value >> (8 * i) & 0xFF));
}

// TensorFlow masks the sum because the sum of data that holds its own sum is troublesome
// (tensorflow/core/lib/hash/crc32c.h).
uint32_t MaskedCrc32c(std::string_view data) {
  const uint32_t crc = Crc32c(data);
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

std::string TagOf(std::string_view name) {
  constexpr std::string_view kValidation = "validation_";
  if (name.substr(0, kValidation.size()) == kValidation) {
    return absl::StrCat("validation/", View(name.substr(kValidation.size())));
  }
  return absl::StrCat("train/", View(name));
}

event::Event NewEvent(int64_t step) {
  event::Event event;
  event.set_wall_time(WallTimeSeconds());
  event.set_step(step);
  return event;
}

std::string Indented(std::string_view text) {
  std::string out;
  for (const auto& line : absl::StrSplit(View(text), '\n')) {
    absl::StrAppend(&out, out.empty() ? "    " : "\n    ", config::Printable(View(line), std::string::npos));
  }
  return out;
}

}  // namespace

std::string FrameRecord(std::string_view payload) {
  std::string record;
  record.reserve(payload.size() + 16);
  AppendLittleEndian(payload.size(), 8, &record);
  AppendLittleEndian(MaskedCrc32c(record), 4, &record);
  record += payload;
  AppendLittleEndian(MaskedCrc32c(payload), 4, &record);
  return record;
}

absl::StatusOr<EventWriter> EventWriter::Open(const std::string& run_directory, int64_t resumed_step) {
  const std::string folder = run_directory + "/tb";
  if (mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return ErrnoStatus(errno, "make directory", folder);
  event::Event version;
  version.set_wall_time(WallTimeSeconds());
  version.set_file_version("brain.Event:2");
  event::Event start = NewEvent(resumed_step + 1);
  start.mutable_session()->set_status(event::Session::START);

  // Readers take the files of a run in the order of their names, so a start in the same second as the one
  // before it needs a later second in its name.
  const std::string host_and_process = absl::StrFormat("%s.%d", config::Printable(HostName()), getpid());
  int64_t seconds = static_cast<int64_t>(version.wall_time());
  std::string path;
  do {
    path = absl::StrFormat("%s/events.out.tfevents.%010d.%s", folder, seconds++, host_and_process);
  } while (access(path.c_str(), F_OK) == 0);
  TANREN_ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path));
  EventWriter writer(std::move(file));
  TANREN_RETURN_IF_ERROR(
      writer.file_.Append(FrameRecord(version.SerializeAsString()) + FrameRecord(start.SerializeAsString())));
  return writer;
}

absl::Status EventWriter::Write(const MetricsRecord& record) {
  event::Event event = NewEvent(record.step());
  for (const auto& [name, figure] : record.figures()) {
    event::Value* value = event.mutable_summary()->add_value();
    value->set_tag(TagOf(name));
    value->set_simple_value(static_cast<float>(figure));
  }
  return file_.Append(FrameRecord(event.SerializeAsString()));
}

absl::Status EventWriter::WriteText(int64_t step, std::string_view tag, std::string_view text) {
  event::Event event = NewEvent(step);
  event::Value* value = event.mutable_summary()->add_value();
  value->set_tag(std::string(tag));
  value->mutable_metadata()->mutable_plugin()->set_name("text");
  event::Tensor* tensor = value->mutable_tensor();
  tensor->set_type(event::Tensor::STRING);
  tensor->mutable_shape()->add_dimension()->set_size(1);
  tensor->add_string_value(Indented(text));
  return file_.Append(FrameRecord(event.SerializeAsString()));
}

}  // namespace tanren
