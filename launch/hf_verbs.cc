#include "launch/hf_verbs.h"

#include <unistd.h>

#include <memory>
#include <vector>

#include "core/base/status.h"
#include "core/checkpoint/reader.h"
#include "core/comm/comm.h"
#include "core/hugging_face/export.h"
#include "core/hugging_face/import.h"

namespace tanren {
namespace {

constexpr int kDone = 0;
constexpr int kFailed = 1;
constexpr int kWrongInput = 2;
constexpr int64_t kProgressBytes = int64_t{256} << 20;

int Report(const absl::Status& status, std::ostream& errors) {
  errors << status.message() << '\n';
  const bool environment =
      absl::IsResourceExhausted(status) || absl::IsInternal(status) || absl::IsUnavailable(status);
  return environment ? kFailed : kWrongInput;
}

void Show(const std::vector<std::string>& notes, std::ostream& errors) {
  for (const std::string& note : notes) errors << "note: " << note << '\n';
}

// A line that overwrites itself, on a terminal only: a log of a job would keep every one of them.
class Progress {
 public:
  Progress(const char* verb, std::ostream& errors) : verb_(verb), errors_(errors) {
    shown_ = &errors == &std::cerr && isatty(STDERR_FILENO) != 0;
  }
  void operator()(int64_t bytes) {
    done_ += bytes;
    if (!shown_ || done_ < next_) return;
    next_ = done_ + kProgressBytes;
    errors_ << '\r' << verb_ << ' ' << (done_ >> 20) << " MiB" << std::flush;
    written_ = true;
  }
  void End() {
    if (written_) errors_ << '\n';
    written_ = false;
  }

 private:
  const char* verb_;
  std::ostream& errors_;
  bool shown_ = false;
  bool written_ = false;
  int64_t done_ = 0;
  int64_t next_ = kProgressBytes;
};

}  // namespace

int ImportHf(const ImportHfOptions& options, std::ostream& out, std::ostream& errors) {
  Progress progress("written", errors);
  HfImportOptions import;
  import.model = options.model;
  import.on_written = [&](int64_t bytes) { progress(bytes);
};
const absl::StatusOr<HfImportReport> report = ImportHuggingFace(options.directory, options.out, import);
progress.End();
if (!report.ok()) return Report(report.status(), errors);
Show(report->notes, errors);
out << report->path << ": family " << report->family << ", " << report->tensors << " tensors, "
    << report->parameters << " parameters\n";
return kDone;
}  // namespace tanren

int ExportHf(const ExportHfOptions& options, std::ostream& out, std::ostream& errors) {
  HfExportOptions chosen;
  chosen.model = options.model;
  if (options.dtype == "bfloat16") {
    chosen.dtype = DType::kBF16;
  } else if (options.dtype != "float32") {
    errors << "--dtype " << options.dtype << " is not known; use float32 or bfloat16\n";
    return kWrongInput;
  }
  Progress progress("written", errors);
  chosen.on_written = [&](int64_t bytes) { progress(bytes); };
  const std::unique_ptr<Comm> world = MakeSoloComm("world");
  const absl::StatusOr<std::unique_ptr<CheckpointReader>> reader =
      CheckpointReader::Open(*world, options.step_directory);
  if (!reader.ok()) return Report(reader.status(), errors);
  const absl::StatusOr<HfExportReport> report = ExportHuggingFace(**reader, options.out, chosen);
  progress.End();
  if (!report.ok()) return Report(report.status(), errors);
  Show(report->notes, errors);
  out << report->path << ": family " << report->family << ", " << report->tensors << " tensors, "
      << report->bytes << " bytes of " << options.dtype << '\n';
  return kDone;
}

}  // namespace tanren
