#include "tests/emulation/copies.h"

#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "tests/emulation/emulator.h"

namespace tanren::emulation {
namespace {

constexpr uint64_t kMark = 0x7a6e726e6d617073;
constexpr size_t kBulkAlignment = 16;

// --- Barriers: all of one in 8 bytes, as in shared memory. ---

struct Mbarrier {
  uint64_t parity : 1;     // of the phase under way
  uint64_t expected : 14;  // arrivals of a phase
  uint64_t pending : 14;   // arrivals still to come
  int64_t bytes : 28;      // announced and not come
  uint64_t made : 7;       // kMade
};
static_assert(sizeof(Mbarrier) == 8);
constexpr uint64_t kMade = 0x2d;

void Check(const uint64_t* barrier) {
  FromShared(SharedAddress(barrier), sizeof(*barrier), sizeof(*barrier));
  if (std::bit_cast<Mbarrier>(*barrier).made != kMade) Fail("an mbarrier that nobody made");
}

void Change(uint64_t* barrier, int arrivals, int64_t bytes) {
  Check(barrier);
  Mbarrier state = std::bit_cast<Mbarrier>(*barrier);
  if (state.pending < static_cast<uint64_t>(arrivals))
    Fail("an mbarrier of %d arrivals gets one more", static_cast<int>(state.expected));
  state.pending -= arrivals;
  state.bytes += bytes;
  if (state.pending == 0 && state.bytes < 0)
    Fail("an mbarrier gets %d bytes more than it was told of", static_cast<int>(-state.bytes));
  if (state.pending == 0 && state.bytes == 0) {
    state.parity ^= 1;
    state.pending = state.expected;
  }
  *barrier = std::bit_cast<uint64_t>(state);
}

// --- Boxes. ---

// Calls row(shared address of its first byte, pointer to it in global memory or null outside, bytes) for each
// row of the box along the first dimension.
void ForEachRow(const CUtensorMap& map, const std::array<int, 4>& at, uint32_t shared,
                const std::function<void(uint32_t, unsigned char*, size_t)>& row) {
  const size_t row_bytes = map.box[0] * map.strides[0];
  uint32_t address = shared;
  for (uint32_t i3 = 0; i3 < map.box[3]; ++i3) {
    for (uint32_t i2 = 0; i2 < map.box[2]; ++i2) {
      for (uint32_t i1 = 0; i1 < map.box[1]; ++i1) {
        const int64_t coordinates[3] = {int64_t{at[1]} + i1, int64_t{at[2]} + i2, int64_t{at[3]} + i3};
        unsigned char* from = map.data + at[0] * static_cast<int64_t>(map.strides[0]);
        bool inside = true;
        for (int d = 0; d < 3; ++d) {
          inside &= coordinates[d] >= 0 && coordinates[d] < static_cast<int64_t>(map.dims[d + 1]);
          from += coordinates[d] * static_cast<int64_t>(map.strides[d + 1]);
        }
        row(address, inside ? from : nullptr, row_bytes);
        address += static_cast<uint32_t>(row_bytes);
      }
    }
  }
}

void CheckMap(const CUtensorMap& map, const std::array<int, 4>& at, int rank) {
  if (map.mark != kMark) Fail("a tensor map that was not encoded");
  if (map.rank != static_cast<uint32_t>(rank))
    Fail("a tensor map of rank %u for a copy of rank %d", map.rank, rank);
  if (at[0] != 0 || map.box[0] > map.dims[0])
    Fail("boxes that begin within a row or are longer are not emulated");
}

size_t BoxBytes(const CUtensorMap& map) {
  return size_t{map.box[0]} * map.box[1] * map.box[2] * map.box[3] * map.strides[0];
}

// Rows of at most 128 bytes, whose pieces of 16 the swizzle moves.
void ReadRow(unsigned char* to, uint32_t address, size_t bytes, bool swizzled) {
  for (size_t at = 0; at < bytes; at += kBulkAlignment) {
    const uint32_t piece = address + static_cast<uint32_t>(at);
    std::memcpy(to + at, FromShared(swizzled ? Swizzled(piece) : piece, kBulkAlignment, kBulkAlignment),
                kBulkAlignment);
  }
}
void WriteRow(uint32_t address, const unsigned char* from, size_t bytes, bool swizzled) {
  for (size_t at = 0; at < bytes; at += kBulkAlignment) {
    const uint32_t piece = address + static_cast<uint32_t>(at);
    unsigned char* const to = FromShared(swizzled ? Swizzled(piece) : piece, kBulkAlignment, kBulkAlignment);
    if (from == nullptr) {
      std::memset(to, 0, kBulkAlignment);
    } else {
      std::memcpy(to, from + at, kBulkAlignment);
    }
  }
}

uint32_t TileAddress(const void* pointer, const CUtensorMap& map) {
  const uint32_t address = SharedAddress(pointer);
  FromShared(address, BoxBytes(map), map.is_swizzled ? 1024 : 128);
  return address;
}

void CheckBulk(const void* a, const void* b, int bytes) {
  const uintptr_t bits =
      reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b) | static_cast<uintptr_t>(bytes);
  if (bits % kBulkAlignment != 0)
    Fail("a bulk copy of %d bytes between %p and %p: not all multiples of 16", bytes, a, b);
}

// A way out of shared memory: what is read, then what is written, each when its group is waited for.
void AddBulk(std::function<void(std::vector<unsigned char>&)> read,
             std::function<void(const std::vector<unsigned char>&)> write) {
  auto bytes = std::make_shared<std::vector<unsigned char>>();
  auto has_read = std::make_shared<bool>(false);
  auto read_once = [bytes, has_read, read = std::move(read)] {
    if (!*has_read) read(*bytes);
    *has_read = true;
  };
  AddWork(Work::kBulkReads, read_once);
  AddWork(Work::kBulkWrites, [read_once, bytes, write = std::move(write)] {
    read_once();
    write(*bytes);
  });
}

void AddFloat(float* to, float value) {
  std::atomic_ref<float> at(*to);
  float before = at.load();
  while (!at.compare_exchange_weak(before, before + value)) {
  }
}

}  // namespace

void InitMbarrier(uint64_t* barrier, int arrivals) {
  FromShared(SharedAddress(barrier), sizeof(*barrier), sizeof(*barrier));
  if (arrivals < 1 || arrivals >= 1 << 14) Fail("an mbarrier of %d arrivals", arrivals);
  Mbarrier state = {};
  state.expected = state.pending = static_cast<uint64_t>(arrivals);
  state.made = kMade;
  *barrier = std::bit_cast<uint64_t>(state);
}

void ArriveMbarrier(uint64_t* barrier, int bytes) { Change(barrier, 1, bytes); }

void WaitMbarrier(uint64_t* barrier, uint32_t parity) {
  Check(barrier);
  Await("mbarrier", [=] { return std::bit_cast<Mbarrier>(*barrier).parity != parity; });
}

CUresult EncodeTiled(CUtensorMap* map, CUtensorMapDataType /*of 2 bytes, all there are here*/,
                     cuuint32_t rank, void* data, const cuuint64_t* dims, const cuuint64_t* strides,
                     const cuuint32_t* box, const cuuint32_t* element_strides, CUtensorMapInterleave,
                     CUtensorMapSwizzle swizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill) {
  constexpr uint64_t kElement = 2, kMostStride = uint64_t{1} << 40, kMostDim = uint64_t{1} << 32;
  constexpr uint32_t kMostBox = 256, kSwizzleRow = 128;
  if (rank < 3 || rank > 4 || reinterpret_cast<uintptr_t>(data) % 16 != 0) return CUDA_ERROR_INVALID_VALUE;
  *map = {};
  map->data = static_cast<unsigned char*>(data);
  map->rank = rank;
  map->is_swizzled = swizzle == CU_TENSOR_MAP_SWIZZLE_128B;
  map->strides[0] = kElement;
  for (uint32_t d = 0; d < 4; ++d) {
    map->dims[d] = d < rank ? dims[d] : 1;
    map->box[d] = d < rank ? box[d] : 1;
    if (map->dims[d] == 0 || map->dims[d] > kMostDim || map->box[d] == 0 || map->box[d] > kMostBox)
      return CUDA_ERROR_INVALID_VALUE;
    if (d < rank && element_strides[d] != 1) return CUDA_ERROR_INVALID_VALUE;
    if (d > 0 && d < rank) {
      map->strides[d] = strides[d - 1];
      if (strides[d - 1] % 16 != 0 || strides[d - 1] >= kMostStride) return CUDA_ERROR_INVALID_VALUE;
    }
  }
  const uint64_t row = map->box[0] * kElement;
  if (row % 16 != 0 || (map->is_swizzled && row > kSwizzleRow)) return CUDA_ERROR_INVALID_VALUE;
  map->mark = kMark;
  return CUDA_SUCCESS;
}

void LoadBox(void* to, const CUtensorMap& map, uint64_t* barrier, std::array<int, 4> at, int rank) {
  CheckMap(map, at, rank);
  Check(barrier);
  const uint32_t address = TileAddress(to, map);
  Asynchronously([map, barrier, at, address] {
    ForEachRow(map, at, address, [&](uint32_t shared, unsigned char* from, size_t bytes) {
      WriteRow(shared, from, bytes, map.is_swizzled);
    });
    Change(barrier, 0, -static_cast<int64_t>(BoxBytes(map)));
  });
}

void LoadBytes(void* to, const void* from, int bytes, uint64_t* barrier) {
  CheckBulk(to, from, bytes);
  Check(barrier);
  unsigned char* const at = FromShared(SharedAddress(to), bytes, kBulkAlignment);
  Asynchronously([at, from, bytes, barrier] {
    std::memcpy(at, from, bytes);
    Change(barrier, 0, -int64_t{bytes});
  });
}

void StoreBox(const CUtensorMap& map, const void* from, std::array<int, 4> at, int rank) {
  CheckMap(map, at, rank);
  const uint32_t address = TileAddress(from, map);
  AddBulk(
      [map, at, address](std::vector<unsigned char>& bytes) {
        bytes.resize(BoxBytes(map));
        size_t row_at = 0;
        ForEachRow(map, at, address, [&](uint32_t shared, unsigned char*, size_t count) {
          ReadRow(bytes.data() + row_at, shared, count, map.is_swizzled);
          row_at += count;
        });
      },
      [map, at, address](const std::vector<unsigned char>& bytes) {
        size_t row_at = 0;
        ForEachRow(map, at, address, [&](uint32_t, unsigned char* to, size_t count) {
          if (to != nullptr) std::memcpy(to, bytes.data() + row_at, count);
          row_at += count;
        });
      });
}

void StoreBytes(float* to, const void* from, int bytes) {
  CheckBulk(to, from, bytes);
  const unsigned char* const at = FromShared(SharedAddress(from), bytes, kBulkAlignment);
  AddBulk([at, bytes](std::vector<unsigned char>& read) { read.assign(at, at + bytes); },
          [to](const std::vector<unsigned char>& read) { std::memcpy(to, read.data(), read.size()); });
}

void AddFloats(float* to, const void* from, int bytes) {
  CheckBulk(to, from, bytes);
  const unsigned char* const at = FromShared(SharedAddress(from), bytes, kBulkAlignment);
  AddBulk([at, bytes](std::vector<unsigned char>& read) { read.assign(at, at + bytes); },
          [to](const std::vector<unsigned char>& read) {
            for (size_t i = 0; i < read.size() / sizeof(float); ++i) {
              float value;
              std::memcpy(&value, read.data() + i * sizeof(float), sizeof(float));
              AddFloat(to + i, value);
            }
          });
}

void CommitBulk() {
  CommitWork(Work::kBulkReads);
  CommitWork(Work::kBulkWrites);
}
void WaitBulkRead(int groups) { WaitForWork(Work::kBulkReads, groups); }
void WaitBulk(int groups) {
  WaitForWork(Work::kBulkReads, groups);
  WaitForWork(Work::kBulkWrites, groups);
}

void CopyByThread(void* to, const void* from, bool valid, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(from) % bytes != 0) Fail("a copy of %zu bytes from %p", bytes, from);
  AddWork(Work::kCopies, [to, from, valid, bytes] {
    if (valid) {
      std::memcpy(to, from, bytes);
    } else {
      std::memset(to, 0, bytes);
    }
  });
}

void ArriveAfterCopies(uint64_t* barrier) {
  Check(barrier);
  // The thread's copies so far go with the arrival.
  Asynchronously([copies = TakeOpenWork(Work::kCopies), barrier] {
    copies();
    Change(barrier, 1, 0);
  });
}

}  // namespace tanren::emulation
