// What must hold in a manifest before a byte of tensor data is trusted.
#include <algorithm>
#include <set>
#include <tuple>

#include "core/base/status.h"
#include "core/checkpoint/file_system.h"
#include "core/checkpoint/manifest.h"

namespace tanren {
namespace {

bool IsText(std::string_view text, size_t max_bytes) {
  return text.size() <= max_bytes &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

absl::Status CheckHead(const Manifest& manifest) {
  if (manifest.step < 0) return InvalidInput("step %d is negative", manifest.step);
  if (!IsText(manifest.run_id, 255) || !IsText(manifest.stage, 255))
    return InvalidInput("run id or stage is not printable ASCII");
  const MeshShape& mesh = manifest.mesh;
  for (int size : {mesh.pipe, mesh.data, mesh.context, mesh.tensor}) {
    if (size < 1 || size > 1 << 24) return InvalidInput("mesh axis of size %d", size);
  }
  if (manifest.block_bytes < 4096 || manifest.block_bytes > int64_t{64} << 20 ||
      manifest.block_bytes % 8 != 0) {
    return InvalidInput("checksum blocks of %d bytes; 4096 to 64 MiB, a multiple of 8", manifest.block_bytes);
  }
  for (const auto& [key, value] : manifest.state) {
    if (key.empty() || !IsText(key, 255))
      return InvalidInput("state key \"%s\" is not printable ASCII", Escaped(key));
  }
  return absl::OkStatus();
}

absl::Status CheckFiles(const Manifest& manifest) {
  std::set<std::string> paths;
  for (const FileInfo& file : manifest.files) {
    if (!IsPlainBasename(file.name))
      return InvalidInput("file name \"%s\" is not a plain basename", Escaped(file.name));
    if (!paths.insert(Manifest::PathOf(file)).second)
      return InvalidInput("file %s twice", Manifest::PathOf(file));
    const bool shard_name = file.name.ends_with(".safetensors");
    const bool name_fits = file.kind == FileKind::kShard    ? shard_name
                           : file.kind == FileKind::kConfig ? file.name == "resolved.yaml"
                                                            : true;
    if (!name_fits) return InvalidInput("file %s: name does not fit its kind", file.name);
    if (file.bytes < 0 || file.bytes > int64_t{1} << 60)
      return InvalidInput("file %s: %d bytes", file.name, file.bytes);
    const int64_t min_header = file.kind == FileKind::kShard ? 10 : 0;
    if (file.header_bytes < min_header || file.header_bytes > file.bytes) {
      return InvalidInput("file %s: header of %d bytes in %d", file.name, file.header_bytes, file.bytes);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckTensors(const Manifest& manifest) {
  std::set<std::string> keys;
  for (const TensorInfo& tensor : manifest.tensors) {
    TANREN_RETURN_IF_ERROR(CheckTensorInfo(tensor));
    if (!keys.insert(TensorKey(tensor)).second) return InvalidInput("tensor %s twice", TensorKey(tensor));
  }
  return absl::OkStatus();
}

absl::Status CheckChunk(const Manifest& manifest, const ChunkInfo& chunk) {
  if (chunk.tensor < 0 || chunk.tensor >= static_cast<int>(manifest.tensors.size())) {
    return InvalidInput("tensor index %d of %d", chunk.tensor, manifest.tensors.size());
  }
  if (chunk.file < 0 || chunk.file >= static_cast<int>(manifest.files.size()) ||
      manifest.files[chunk.file].kind != FileKind::kShard) {
    return InvalidInput("file index %d of %d names no shard", chunk.file, manifest.files.size());
  }
  const TensorInfo& tensor = manifest.tensors[chunk.tensor];
  TANREN_RETURN_IF_ERROR(CheckRegion(tensor.shape, chunk.region));
  if (chunk.region.elements() == 0) return InvalidInput("empty chunk");
  const std::string key = ChunkKey(tensor, chunk.region);
  if (chunk.key != key) return InvalidInput("key should be %s", key);
  const int64_t bytes = manifest.ChunkBytes(chunk);
  const int64_t blocks = (bytes + manifest.block_bytes - 1) / manifest.block_bytes;
  if (static_cast<int64_t>(chunk.block_crc32c.size()) != blocks) {
    return InvalidInput("%d block checksums, %d bytes need %d", chunk.block_crc32c.size(), bytes, blocks);
  }
  const FileInfo& file = manifest.files[chunk.file];
  if (chunk.file_offset < file.header_bytes || bytes > file.bytes || chunk.file_offset > file.bytes - bytes) {
    return InvalidInput("bytes %d + %d lie outside the data of %s", chunk.file_offset, bytes, file.name);
  }
  return absl::OkStatus();
}

// The chunks of each shard follow each other without hole or overlap from its header to its end.
absl::Status CheckPlacement(const Manifest& manifest) {
  std::vector<int> order(manifest.chunks.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  const auto& chunks = manifest.chunks;
  std::sort(order.begin(), order.end(), [&](int a, int b) {
    return std::tie(chunks[a].file, chunks[a].file_offset, a) <
           std::tie(chunks[b].file, chunks[b].file_offset, b);
  });
  size_t next = 0;
  for (int f = 0; f < static_cast<int>(manifest.files.size()); ++f) {
    const FileInfo& file = manifest.files[f];
    if (file.kind != FileKind::kShard) continue;
    int64_t position = file.header_bytes;
    for (; next < order.size() && chunks[order[next]].file == f; ++next) {
      const ChunkInfo& chunk = chunks[order[next]];
      if (chunk.file_offset != position) {
        return InvalidInput("file %s: chunk %s begins at byte %d, the one before ends at %d", file.name,
                            chunk.key, chunk.file_offset, position);
      }
      position += manifest.ChunkBytes(chunk);
    }
    if (position != file.bytes) {
      return InvalidInput("file %s: chunks end at byte %d of %d", file.name, position, file.bytes);
    }
  }
  return absl::OkStatus();
}

absl::Status CheckCoverage(const Manifest& manifest) {
  std::vector<std::vector<int>> by_tensor(manifest.tensors.size());
  for (size_t c = 0; c < manifest.chunks.size(); ++c)
    by_tensor[manifest.chunks[c].tensor].push_back(static_cast<int>(c));
  for (size_t t = 0; t < manifest.tensors.size(); ++t) {
    const TensorInfo& tensor = manifest.tensors[t];
    std::vector<Region> regions;
    for (int c : by_tensor[t]) regions.push_back(manifest.chunks[c].region);
    const auto label = [&](int r) {
      const ChunkInfo& chunk = manifest.chunks[by_tensor[t][r]];
      return absl::StrCat(chunk.key, " (", manifest.files[chunk.file].name, ")");
    };
    TANREN_RETURN_IF_ERROR(At("tensor " + TensorKey(tensor), ProveCoverage(tensor.shape, regions, label)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateManifest(const Manifest& manifest) {
  TANREN_RETURN_IF_ERROR(At("manifest", CheckHead(manifest)));
  TANREN_RETURN_IF_ERROR(At("manifest", CheckFiles(manifest)));
  TANREN_RETURN_IF_ERROR(At("manifest", CheckTensors(manifest)));
  for (const ChunkInfo& chunk : manifest.chunks) {
    TANREN_RETURN_IF_ERROR(At("manifest: chunk \"" + Escaped(chunk.key) + "\"", CheckChunk(manifest, chunk)));
  }
  TANREN_RETURN_IF_ERROR(At("manifest", CheckPlacement(manifest)));
  return At("manifest", CheckCoverage(manifest));
}

}  // namespace tanren
