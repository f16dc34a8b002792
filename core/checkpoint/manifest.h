// What a checkpoint holds: files, global tensors, the chunks that cover them, and the run's rank-free state.
// The grammar and every check a reader makes are in docs/checkpoint_format.md.
#ifndef TANREN_CORE_CHECKPOINT_MANIFEST_H_
#define TANREN_CORE_CHECKPOINT_MANIFEST_H_

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/checkpoint/region.h"
#include "core/comm/mesh.h"
#include "kernels/types.h"

namespace tanren {

inline constexpr uint32_t kManifestSchemaVersion = 1;
inline constexpr int64_t kMaxManifestBytes = int64_t{256} << 20;
inline constexpr int64_t kChecksumBlockBytes = int64_t{1} << 20;

enum class Role : uint8_t { kWeight, kFirstMoment, kSecondMoment, kOther };
const char* NameOf(Role role);  // "weight", "first_moment", "second_moment", "other"

// A global tensor. (model, name, role) identifies it.
struct TensorInfo {
  std::string model;  // "policy", "critic", ...: [A-Za-z0-9._-]
  std::string name;   // printable ASCII without space, quote, backslash, '#' and '@'
  Role role = Role::kWeight;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;

  bool operator==(const TensorInfo&) const = default;
};

// "policy/wte.weight", and "policy/wte.weight#first_moment" for the other roles.
std::string TensorKey(const TensorInfo& tensor);
// The name of a region's entry in a safetensors file: the tensor's key when the region is all of it, else
// key@OFFSETS+SIZES and, for a range, [BEGIN:END], so that no reader mistakes a slice for the tensor.
std::string ChunkKey(const TensorInfo& tensor, const Region& region);
// The shape of that entry: the box's sizes, or one dim for a range.
std::vector<int64_t> ChunkShape(const Region& region);

enum class FileKind : uint8_t { kShard, kConfig, kTokenizer };

struct FileInfo {
  std::string name;  // a plain basename; tokenizer files lie in tokenizer/
  FileKind kind = FileKind::kShard;
  int64_t bytes = 0;
  uint32_t crc32c = 0;
  int64_t header_bytes = 0;  // shards only
  uint32_t header_crc32c = 0;

  bool operator==(const FileInfo&) const = default;
};

struct ChunkInfo {
  int tensor = 0;  // index into Manifest::tensors
  int file = 0;    // index into Manifest::files
  Region region;
  std::string key;
  int64_t file_offset = 0;
  std::vector<uint32_t> block_crc32c;  // one per kChecksumBlockBytes of data, the last may be shorter
};

struct Manifest {
  std::string run_id;
  int64_t step = 0;
  std::string stage;
  MeshShape mesh;
  std::vector<FileInfo> files;
  std::vector<TensorInfo> tensors;
  std::vector<ChunkInfo> chunks;
  std::map<std::string, std::string> state;  // keys: printable ASCII, at most 255 bytes
  std::string config_sha256;
  std::string tokenizer_sha256;
  int64_t block_bytes = kChecksumBlockBytes;

  int64_t ChunkBytes(const ChunkInfo& chunk) const {
    return chunk.region.elements() * SizeOf(tensors[chunk.tensor].dtype);
  }
  // Data bytes of all tensors.
  int64_t TensorBytes() const;
  // The file's path inside the step directory.
  static std::string PathOf(const FileInfo& file);
};

// A tokenizer's files by plain basename, each of at most kMaxTokenizerFileBytes.
using TokenizerFiles = std::map<std::string, std::string>;
inline constexpr int64_t kMaxTokenizerFileBytes = int64_t{256} << 20;
// SHA-256 of "NAME NUL SHA256(contents) NEWLINE" over the files by name; empty without files.
std::string TokenizerSha256(const TokenizerFiles& files);

// The name is one that TensorInfo allows.
absl::Status CheckTensorInfo(const TensorInfo& tensor);

// The bytes are a function of the contents alone: no time, host name or random number.
std::string EncodeManifest(const Manifest& manifest);

// Takes bytes apart within fixed limits on lengths, counts and nesting; nothing is allocated from a number
// that the bytes merely claim. FailedPrecondition for a schema version of a later Tanren, else
// InvalidArgument.
absl::StatusOr<Manifest> DecodeManifest(std::string_view bytes);

// Every index, name, size, offset and range is in bounds; chunks fill each shard without hole or overlap; and
// every element of every tensor lies in exactly one chunk.
absl::Status ValidateManifest(const Manifest& manifest);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_MANIFEST_H_
