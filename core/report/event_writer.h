// TensorBoard events without TensorFlow: RUN/tb/events.out.tfevents.<seconds>.<host>.<process>.
//
// A file is a sequence of TFRecords (length, masked CRC-32C of the length, event, masked CRC-32C of the
// event; all little-endian), each event a protobuf message of core/report/event.proto. Every start of a run
// opens a new file; TensorBoard reads them as one run, and a resumed run's first event makes it forget the
// steps that are done again.
#ifndef TANREN_CORE_REPORT_EVENT_WRITER_H_
#define TANREN_CORE_REPORT_EVENT_WRITER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/report/append_file.h"
#include "core/report/metrics_log.h"

namespace tanren {

// Rank 0 of a run writes it. After an error the file holds whole records only and the next call may succeed.
class EventWriter {
 public:
  // Makes RUN/tb and opens a new file in it. `resumed_step`: the last step that stands, 0 for a run that
  // starts.
  static absl::StatusOr<EventWriter> Open(const std::string& run_directory, int64_t resumed_step);

  // One event with all figures as scalars (in float32, which is all that the format has). The tags:
  // validation/x for a figure called validation_x, else train/x. NaN and infinity are written as such.
  absl::Status Write(const MetricsRecord& record);

  // `text` is shown word for word: it is indented, so that Markdown in it has no effect. Bytes that are not
  // UTF-8 are escaped.
  absl::Status WriteText(int64_t step, std::string_view tag, std::string_view text);

  const std::string& path() const { return file_.path(); }

 private:
  explicit EventWriter(AppendFile file) : file_(std::move(file)) {}

  AppendFile file_;
};

// One TFRecord.
std::string FrameRecord(std::string_view payload);

}  // namespace tanren

#endif  // TANREN_CORE_REPORT_EVENT_WRITER_H_
