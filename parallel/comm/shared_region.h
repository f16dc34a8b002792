// Memory that the ranks of a group on one node share.
#ifndef TANREN_PARALLEL_COMM_SHARED_REGION_H_
#define TANREN_PARALLEL_COMM_SHARED_REGION_H_

#include <mpi.h>

#include <cstddef>
#include <cstdint>

#include "absl/status/statusor.h"

namespace tanren {

// A mapping of one anonymous file (memfd), zero at first. The file has no name: it is gone with the last
// process, however that ends, and does not count against /dev/shm.
class SharedRegion {
 public:
  // Collective over `group`: rank 0 creates, the others map. `bytes` is rank 0's. An error is the same on all
  // ranks.
  static absl::StatusOr<SharedRegion> Create(MPI_Comm group, int64_t bytes);

  SharedRegion() = default;
  ~SharedRegion();
  SharedRegion(SharedRegion&& other) noexcept;
  SharedRegion& operator=(SharedRegion&& other) noexcept;

  // Page-aligned.
  std::byte* data() const { return data_; }
  int64_t bytes() const { return bytes_; }

 private:
  SharedRegion(std::byte* data, int64_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace tanren

#endif  // TANREN_PARALLEL_COMM_SHARED_REGION_H_
