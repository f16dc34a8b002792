// The copy engine of the emulated GPU, and the barriers in shared memory that it reports to (mbarrier).
#ifndef TANREN_TESTS_EMULATION_COPIES_H_
#define TANREN_TESTS_EMULATION_COPIES_H_

#include <cuda.h>

#include <array>
#include <cstddef>
#include <cstdint>

namespace tanren::emulation {

void InitMbarrier(uint64_t* barrier, int arrivals);
// One arrival, which announces `bytes` of copies.
void ArriveMbarrier(uint64_t* barrier, int bytes);
// Until the phase of this parity is complete.
void WaitMbarrier(uint64_t* barrier, uint32_t parity);

// cuTensorMapEncodeTiled: refuses what the driver refuses.
CUresult EncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* data,
                     const cuuint64_t* dims, const cuuint64_t* strides, const cuuint32_t* box,
                     const cuuint32_t* element_strides, CUtensorMapInterleave interleave,
                     CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                     CUtensorMapFloatOOBfill fill);

// Global to shared memory, completing on the barrier.
void LoadBox(void* to, const CUtensorMap& map, uint64_t* barrier, std::array<int, 4> at, int rank);
void LoadBytes(void* to, const void* from, int bytes, uint64_t* barrier);
// Shared to global memory, in groups of the thread.
void StoreBox(const CUtensorMap& map, const void* from, std::array<int, 4> at, int rank);
void StoreBytes(float* to, const void* from, int bytes);
void AddFloats(float* to, const void* from, int bytes);
void CommitBulk();
// Until at most so many groups still read shared memory; are not complete.
void WaitBulkRead(int groups);
void WaitBulk(int groups);

// A copy by a thread to shared memory, of zeros unless `valid`, and its arrival when its copies are done.
void CopyByThread(void* to, const void* from, bool valid, size_t bytes);
void ArriveAfterCopies(uint64_t* barrier);

}  // namespace tanren::emulation

#endif  // TANREN_TESTS_EMULATION_COPIES_H_
