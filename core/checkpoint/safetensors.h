// The safetensors file format (huggingface.co/docs/safetensors): eight bytes N, little-endian; N bytes of
// JSON that begin with '{' and may be padded with whitespace; then the data of the tensors, without holes.
//
// Reading trusts nothing: the header is bounded, and every entry's dtype, shape and byte range are checked
// against the others and the file's size before any tensor is read. Writing gives the standard layout byte
// for byte: entries by descending position of their type in the format's list (wide types first), then by
// name; the header padded with spaces to a multiple of eight.
#ifndef TANREN_CORE_CHECKPOINT_SAFETENSORS_H_
#define TANREN_CORE_CHECKPOINT_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/checkpoint/file_system.h"
#include "kernels/types.h"

namespace tanren {

inline constexpr int64_t kMaxSafetensorsHeaderBytes = 100'000'000;  // the limit of the published reader

// "F32", "BF16", ...
const char* SafetensorsName(DType dtype);

struct SafetensorsEntry {
  std::string name;
  std::string dtype_name;  // as in the file
  std::optional<DType>
      dtype;  // absent for the format's types that Tanren does not compute with (BOOL, F8_E4M3, ...)
  std::vector<int64_t> shape;
  int64_t begin = 0;  // bytes, from the start of the data part
  int64_t end = 0;

  int64_t bytes() const { return end - begin; }
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // by ascending position in the file
  std::map<std::string, std::string> metadata;
  int64_t data_offset = 0;  // bytes, from the start of the file

  // nullptr when there is none.
  const SafetensorsEntry* Find(std::string_view name) const;
};

// Checks `prefix`, the first bytes of a file of `file_bytes` bytes, which must hold the whole header. Errors
// are InvalidArgument and name the entry.
absl::StatusOr<SafetensorsHeader> ParseSafetensors(std::string_view prefix, int64_t file_bytes);

// A file open for reading. Thread-safe after opening.
class SafetensorsFile {
 public:
  static absl::StatusOr<SafetensorsFile> Open(const std::string& path);
  static absl::StatusOr<SafetensorsFile> OpenAt(const Directory& directory, const std::string& name);

  const SafetensorsHeader& header() const { return header_; }
  const std::vector<SafetensorsEntry>& entries() const { return header_.entries; }
  const ReadableFile& file() const { return file_; }

  // The data of one tensor, row-major, into `out` of `bytes` bytes, which must be the entry's size.
  absl::Status Read(std::string_view name, void* out, int64_t bytes) const;
  // Bytes [begin, begin + bytes) of one tensor's data.
  absl::Status ReadPart(const SafetensorsEntry& entry, int64_t begin, void* out, int64_t bytes) const;

 private:
  ReadableFile file_;
  SafetensorsHeader header_;
};

struct SafetensorsSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;
};

// Where everything goes in a file that is to be written.
struct SafetensorsPlan {
  std::string header;            // the eight bytes and the padded JSON
  std::vector<int> order;        // indices of the specs in the order of their data
  std::vector<int64_t> offsets;  // by spec: bytes from the start of the file
  int64_t file_bytes = 0;
};

// Refuses duplicate names, the name "__metadata__", names that are not UTF-8 and headers beyond the limit.
absl::StatusOr<SafetensorsPlan> PlanSafetensors(absl::Span<const SafetensorsSpec> specs,
                                                const std::map<std::string, std::string>& metadata);

// Writes whole tensors, data[i] being specs[i]'s elements, row-major. The file appears under its name
// complete and on the disk, or not at all; an existing file is never replaced (AlreadyExists).
absl::Status WriteSafetensors(const std::string& path, absl::Span<const SafetensorsSpec> specs,
                              absl::Span<const void* const> data,
                              const std::map<std::string, std::string>& metadata);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_SAFETENSORS_H_
