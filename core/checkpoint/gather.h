// Moves data from the chunks of one shard file into pieces in memory, block by block.
#ifndef TANREN_CORE_CHECKPOINT_GATHER_H_
#define TANREN_CORE_CHECKPOINT_GATHER_H_

#include <vector>

#include "absl/status/status.h"
#include "core/checkpoint/file_system.h"
#include "core/checkpoint/manifest.h"
#include "core/checkpoint/region.h"

namespace tanren {

// Runs of one chunk that go to one piece's memory.
struct GatherTarget {
  std::vector<SharedRuns::Cursor> cursors;
  char* data = nullptr;
};

class ChunkGatherer {
 public:
  explicit ChunkGatherer(const Manifest& manifest);

  // Reads each block of the chunk that any target needs exactly once and checks it. A block that one target
  // needs whole is read straight into its place, other blocks are read aside and copied run by run. DataLoss
  // names file, chunk and bytes of a wrong checksum.
  absl::Status Gather(const ReadableFile& file, const ChunkInfo& chunk, std::vector<GatherTarget>* targets);

 private:
  const Manifest& manifest_;
  std::vector<char> scratch_;
};

// OK, or DataLoss that names the block, which holds `bytes` bytes with the checksum `crc32c`.
absl::Status CheckBlock(const ReadableFile& file, const ChunkInfo& chunk, int64_t block, int64_t block_bytes,
                        int64_t bytes, uint32_t crc32c);

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_GATHER_H_
