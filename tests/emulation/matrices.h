// The matrix instructions of the emulated GPU, by the layouts that the PTX ISA gives for them. Elements are
// bf16; sums are taken in double and rounded once an instruction, as the hardware adds with more bits than it
// keeps.
#ifndef TANREN_TESTS_EMULATION_MATRICES_H_
#define TANREN_TESTS_EMULATION_MATRICES_H_

#include <cstdint>

namespace tanren::emulation {

// ldmatrix.m8n8.x4 [.trans] and stmatrix.m8n8.x4.
void LoadMatrices(uint32_t (&to)[4], uint32_t from, bool transposed);
void StoreMatrices(uint32_t to, const uint32_t (&words)[4]);

// mma.m16n8k16: c += a b.
void MultiplyFragments(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1);

// A tile that wgmma reads from shared memory by its descriptor (128-byte swizzle): element (row, k) of A, or
// (k, column) of B with `row` its column.
struct Tile {
  uint64_t descriptor = 0;
  bool transposed = false;
  bool operator==(const Tile&) const = default;
  // Of a row (of B: a column), the 16 of the inner dimension.
  void Read(int row, double (&to)[16]) const;
};
// The thread's elements of d[64, 2 * count] (+)= A B, inner dimension 16, A from shared memory. All lanes of
// a warp come with the same tiles.
void MultiplyTiles(float* d, int count, Tile a, Tile b, bool accumulate);
// A as a fragment in registers, which are read when the product is done.
struct Fragment {
  const uint32_t* at[4];
};
void MultiplyFragmentByTile(float* d, int count, Fragment a, Tile b, bool accumulate);
// wgmma.commit_group and wgmma.wait_group, which all lanes of a warp execute.
void CommitProducts();
void WaitForProducts(int groups);

}  // namespace tanren::emulation

#endif  // TANREN_TESTS_EMULATION_MATRICES_H_
