#include "launch/ckpt_verbs.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>

#include "core/base/status.h"
#include "core/checkpoint/reader.h"
#include "core/checkpoint/run_directory.h"
#include "core/checkpoint/tools.h"

namespace tanren {
namespace {

constexpr int kDone = 0, kDiffers = 1, kWrong = 2;

int Fail(const absl::Status& status) {
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  return kWrong;
}

void Print(const std::string& line) { std::printf("%s\n", line.c_str()); }

absl::StatusOr<std::unique_ptr<CheckpointReader>> OpenAlone(const std::string& path,
                                                            const OpenOptions& options = {}) {
  const std::unique_ptr<Comm> solo = MakeSoloComm("world");
  absl::StatusOr<std::unique_ptr<CheckpointReader>> reader = CheckpointReader::Open(*solo, path, options);
  if (reader.ok()) return reader;
  // "rank 0: " says nothing where there is one process.
  std::string text(reader.status().message());
  if (text.starts_with("rank 0: ")) text.erase(0, 8);
  return absl::Status(reader.status().code(), text);
}

std::string Bytes(int64_t bytes) {
  if (bytes < 10'000) return absl::StrCat(bytes, " B");
  if (bytes < 10'000'000) return absl::StrFormat("%.1f KB", bytes / 1e3);
  if (bytes < int64_t{10'000'000'000}) return absl::StrFormat("%.1f MB", bytes / 1e6);
  return absl::StrFormat("%.1f GB", bytes / 1e9);
}

// A line on the terminal that says how far a long reading is; silent elsewhere.
class ProgressLine {
 public:
  ProgressLine(const char* verb, int64_t total_bytes) : verb_(verb), total_bytes_(total_bytes) {}
  ~ProgressLine() {
    if (shown_) std::fprintf(stderr, "\r\033[K");
  }

  void Advance(int64_t bytes) {
    done_bytes_ += bytes;
    const auto now = std::chrono::steady_clock::now();
    if (!isatty(STDERR_FILENO) || now - last_ < std::chrono::milliseconds(200)) return;
    last_ = now;
    shown_ = true;
    std::fprintf(stderr, "\r\033[K%s %s%s, %s/s", verb_, Bytes(done_bytes_).c_str(),
                 total_bytes_ > 0 ? absl::StrCat(" of ", Bytes(total_bytes_)).c_str() : "",
                 Bytes(static_cast<int64_t>(static_cast<double>(done_bytes_) / Seconds())).c_str());
  }
  double Seconds() const {
    return std::max(1e-9, std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count());
  }
  int64_t done_bytes() const { return done_bytes_; }

 private:
  const char* verb_;
  int64_t total_bytes_, done_bytes_ = 0;
  bool shown_ = false;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now(), last_ = start_;
};

void PrintStep(const Directory& run, const std::string& name) {
  const auto reader = OpenAlone(run.PathOf(name));
  if (!reader.ok()) return Print(absl::StrCat(name, "  DAMAGED  ", reader.status().message()));
  const Manifest& manifest = (*reader)->manifest();
  Print(absl::StrFormat("%s  ok  %s  %s  %d tensors  %s", name, manifest.stage.empty() ? "-" : manifest.stage,
                        manifest.mesh.ToString(), manifest.tensors.size(), Bytes(manifest.TensorBytes())));
}

void PrintTensor(const Manifest& manifest, int index, const std::vector<int>& chunks, bool list_chunks) {
  const TensorInfo& tensor = manifest.tensors[index];
  Print(absl::StrFormat("  %s  %s %s  %d chunks", TensorKey(tensor), NameOf(tensor.dtype),
                        ShapeToString(tensor.shape), chunks.size()));
  if (!list_chunks) return;
  for (int c : chunks) {
    const ChunkInfo& chunk = manifest.chunks[c];
    Print(absl::StrFormat("    %s  %s byte %d, %s", ToString(chunk.region), manifest.files[chunk.file].name,
                          chunk.file_offset, Bytes(manifest.ChunkBytes(chunk))));
  }
}

}  // namespace

int CkptLs(const CkptLsOptions& options) {
  const auto run = Directory::Open(options.run_dir);
  if (!run.ok()) return Fail(run.status());
  const auto steps = ListSteps(*run);
  if (!steps.ok()) return Fail(steps.status());
  const auto names = run->List();
  if (!names.ok()) return Fail(names.status());
  for (const std::string& step : *steps) PrintStep(*run, step);
  for (const std::string& name : *names) {
    const bool of_a_step = ParseStepName(name.substr(0, name.find('.'))) >= 0;
    if (of_a_step && name.find(".tmp-") != std::string::npos) {
      Print(Escaped(name) + "  leftover of an interrupted save; never loaded, removed at the next start");
    } else if (of_a_step && name.find(".damaged-") != std::string::npos) {
      Print(Escaped(name) + "  damaged, set aside; remove it when it is no longer of interest");
    }
  }
  if (steps->empty()) Print(options.run_dir + " has no checkpoints");
  return kDone;
}

int CkptInspect(const CkptInspectOptions& options) {
  const auto reader = OpenAlone(options.directory);
  if (!reader.ok()) return Fail(reader.status());
  const Manifest& manifest = (*reader)->manifest();
  Print(absl::StrFormat("step %d  stage %s  run %s  mesh %s", manifest.step, manifest.stage, manifest.run_id,
                        manifest.mesh.ToString()));
  Print(absl::StrFormat("config SHA-256 %s\ntokenizer SHA-256 %s", manifest.config_sha256,
                        manifest.tokenizer_sha256.empty() ? "-" : manifest.tokenizer_sha256));
  Print(absl::StrFormat("files (%d)", manifest.files.size()));
  for (const FileInfo& file : manifest.files) {
    Print(absl::StrFormat("  %s  %s  CRC32C %08x", Manifest::PathOf(file), Bytes(file.bytes), file.crc32c));
  }
  Print(absl::StrFormat("state (%d)", manifest.state.size()));
  for (const auto& [key, value] : manifest.state) Print(absl::StrCat("  ", key, "  ", Bytes(value.size())));
  Print(absl::StrFormat("tensors (%d, %s)", manifest.tensors.size(), Bytes(manifest.TensorBytes())));
  std::vector<std::vector<int>> chunks(manifest.tensors.size());
  for (size_t c = 0; c < manifest.chunks.size(); ++c)
    chunks[manifest.chunks[c].tensor].push_back(static_cast<int>(c));
  for (size_t t = 0; t < chunks.size(); ++t)
    PrintTensor(manifest, static_cast<int>(t), chunks[t], options.chunks);
  return kDone;
}

int CkptVerify(const CkptVerifyOptions& options) {
  ProgressLine progress("verified", 0);
  OpenOptions open;
  open.verify_data = true;
  open.on_verified = [&](int64_t bytes) { progress.Advance(bytes); };
  const auto reader = OpenAlone(options.directory, open);
  if (!reader.ok()) return Fail(reader.status());
  const Manifest& manifest = (*reader)->manifest();
  Print(absl::StrFormat(
      "%s is valid: step %d, %d files, %d tensors in %d chunks, each element once; %s read at %s/s",
      (*reader)->path(), manifest.step, manifest.files.size(), manifest.tensors.size(),
      manifest.chunks.size(), Bytes(progress.done_bytes()),
      Bytes(static_cast<int64_t>(static_cast<double>(progress.done_bytes()) / progress.Seconds()))));
  return kDone;
}

int CkptDiff(const CkptDiffOptions& options) {
  const auto a = OpenAlone(options.a);
  if (!a.ok()) return Fail(a.status());
  const auto b = OpenAlone(options.b);
  if (!b.ok()) return Fail(b.status());
  std::vector<Difference> differences;
  {
    ProgressLine progress("compared", (*a)->manifest().TensorBytes());
    auto found = DiffCheckpoints(**a, **b, [&](int64_t bytes) { progress.Advance(bytes); });
    if (!found.ok()) return Fail(found.status());
    differences = *std::move(found);
  }
  for (const Difference& difference : differences) {
    Print(absl::StrCat(difference.name, "  ", difference.what,
                       difference.has_values ? absl::StrFormat(", largest absolute difference %.9g",
                                                               difference.max_abs_difference)
                                             : ""));
  }
  if (differences.empty()) {
    Print(absl::StrFormat("equal bit for bit: %d tensors, %s, and %d state entries", (*a)->tensors().size(),
                          Bytes((*a)->manifest().TensorBytes()), (*a)->state().size()));
  }
  return differences.empty() ? kDone : kDiffers;
}

int CkptReshard(const CkptReshardOptions& options) {
  const auto reader = OpenAlone(options.directory);
  if (!reader.ok()) return Fail(reader.status());
  absl::StatusOr<SaveReport> report;
  {
    ProgressLine progress("written", (*reader)->manifest().TensorBytes());
    report = ReshardCheckpoint(**reader, options.out, options.files,
                               [&](int64_t bytes) { progress.Advance(bytes); });
  }
  if (!report.ok()) return Fail(report.status());
  Print(absl::StrFormat("%s: %s in whole tensors%s", report->path, Bytes(report->bytes),
                        report->already_committed ? "; it was there already, with the same contents" : ""));
  return kDone;
}

int CkptPrune(const CkptPruneOptions& options) {
  if (options.keep < 2) return Fail(InvalidInput("--keep %d: at least two commits are kept", options.keep));
  if (options.keep_every < 0)
    return Fail(InvalidInput("--keep-every %d: a number of steps, or 0", options.keep_every));
  if (const auto run = Directory::Open(options.run_dir); !run.ok()) return Fail(run.status());
  const auto lock = RunLock::Acquire(options.run_dir, "tanren ckpt prune");
  if (!lock.ok()) return Fail(lock.status());
  const auto swept = SweepLeftovers(**lock);
  if (!swept.ok()) return Fail(swept.status());
  const auto removed = ApplyRetention((*lock)->run(), {options.keep, options.keep_every}, nullptr);
  if (!removed.ok()) return Fail(removed.status());
  for (const std::string& name : *swept) Print("removed leftover " + name);
  for (const std::string& name : *removed) Print("removed " + name);
  if (swept->empty() && removed->empty()) Print("nothing to remove");
  return kDone;
}

}  // namespace tanren
