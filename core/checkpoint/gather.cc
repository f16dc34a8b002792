#include "core/checkpoint/gather.h"

#include <string.h>

#include <algorithm>

#include "core/base/status.h"
#include "core/checkpoint/checksums.h"

namespace tanren {
namespace {

// The first byte of the chunk that any target still needs; `bytes` of the chunk when none does.
int64_t NextByte(const std::vector<GatherTarget>& targets, int64_t element_bytes, int64_t chunk_bytes) {
  int64_t next = chunk_bytes;
  for (const GatherTarget& target : targets) {
    for (const SharedRuns::Cursor& cursor : target.cursors) {
      if (!cursor.done()) next = std::min(next, cursor.run().source * element_bytes);
    }
  }
  return next;
}

// Where the bytes [begin, end) of the chunk go as one run; nullptr when they are split among runs or targets.
char* DirectTarget(std::vector<GatherTarget>* targets, int64_t element_bytes, int64_t begin, int64_t end,
                   SharedRuns::Cursor** owner) {
  char* place = nullptr;
  for (GatherTarget& target : *targets) {
    for (SharedRuns::Cursor& cursor : target.cursors) {
      if (cursor.done() || cursor.run().source * element_bytes >= end) continue;
      const SharedRuns::Run& run = cursor.run();
      const bool spans = run.source * element_bytes <= begin && (run.source + run.count) * element_bytes >= end;
      if (place != nullptr || !spans) return nullptr;
      place = target.data + run.target * element_bytes;
      *owner = &cursor;
    }
  }
  return place;
}

void CopyRuns(std::vector<GatherTarget>* targets, int64_t element_bytes, const char* block, int64_t begin,
              int64_t end) {
  for (GatherTarget& target : *targets) {
    for (SharedRuns::Cursor& cursor : target.cursors) {
      while (!cursor.done() && cursor.run().source * element_bytes < end) {
        const SharedRuns::Run& run = cursor.run();
        const int64_t count = std::min(run.count, end / element_bytes - run.source);
        memcpy(target.data + run.target * element_bytes, block + (run.source * element_bytes - begin),
               static_cast<size_t>(count * element_bytes));
        cursor.Consume(count);
      }
    }
  }
}

}  // namespace

absl::Status CheckBlock(const ReadableFile& file, const ChunkInfo& chunk, int64_t block, int64_t block_bytes,
                        const void* data, int64_t bytes) {
  const uint32_t expected = chunk.block_crc32c[static_cast<size_t>(block)];
  const uint32_t found = Crc32c(data, bytes);
  if (found == expected) return absl::OkStatus();
  const int64_t begin = chunk.file_offset + block * block_bytes;
  return absl::DataLossError(absl::StrFormat("%s: bytes %d to %d (%s) are damaged: CRC32C %08x, written as %08x",
                                             file.path(), begin, begin + bytes, chunk.key, found, expected));
}

ChunkGatherer::ChunkGatherer(const Manifest& manifest)
    : manifest_(manifest), scratch_(static_cast<size_t>(manifest.block_bytes)) {}

absl::Status ChunkGatherer::Gather(const ReadableFile& file, const ChunkInfo& chunk,
                                   std::vector<GatherTarget>* targets) {
  const int64_t element_bytes = SizeOf(manifest_.tensors[chunk.tensor].dtype);
  const int64_t chunk_bytes = manifest_.ChunkBytes(chunk);
  const int64_t block_bytes = manifest_.block_bytes;
  for (;;) {
    const int64_t next = NextByte(*targets, element_bytes, chunk_bytes);
    if (next >= chunk_bytes) return absl::OkStatus();
    const int64_t block = next / block_bytes;
    const int64_t begin = block * block_bytes, end = std::min(begin + block_bytes, chunk_bytes);
    SharedRuns::Cursor* owner = nullptr;
    char* direct = DirectTarget(targets, element_bytes, begin, end, &owner);
    char* place = direct != nullptr ? direct : scratch_.data();
    TANREN_RETURN_IF_ERROR(file.ReadAt(chunk.file_offset + begin, place, end - begin));
    TANREN_RETURN_IF_ERROR(CheckBlock(file, chunk, block, block_bytes, place, end - begin));
    if (direct != nullptr) {
      owner->Consume((end - begin) / element_bytes);
    } else {
      CopyRuns(targets, element_bytes, place, begin, end);
    }
  }
}

}  // namespace tanren
