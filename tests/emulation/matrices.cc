#include "tests/emulation/matrices.h"

#include <array>
#include <bit>
#include <cstring>

#include "tests/emulation/emulator.h"

namespace tanren::emulation {
namespace {

constexpr int kInner = 16;
constexpr int kQuad = 4;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int kMatrixRows = 8, kMatrixRowBytes = 16;
constexpr int kWarpRows = 16;
constexpr int kPanelColumns = 64, kPanelRowBytes = 128;

float FromBits(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
float Half(uint32_t word, int half) { return FromBits(static_cast<uint16_t>(word >> (16 * half))); }

struct FourWords {
  uint32_t at[4];
};
struct SixWords {
  uint32_t at[6];
};

// The fragment of A that rows `row` and `row + 8` of a 16 x 16 matrix make, from the four lanes that hold it.
struct RowPair {
  double at[2][kInner];
};
template <class Words>
RowPair RowsOfFragment(const Exchange& exchange, int group) {
  RowPair rows;
  for (int t = 0; t < kQuad; ++t) {
    const Words words = exchange.Of<Words>(group * kQuad + t);
    for (int half = 0; half < 2; ++half) {
      rows.at[0][2 * t + half] = Half(words.at[0], half);
      rows.at[1][2 * t + half] = Half(words.at[1], half);
      rows.at[0][2 * t + 8 + half] = Half(words.at[2], half);
      rows.at[1][2 * t + 8 + half] = Half(words.at[3], half);
    }
  }
  return rows;
}

void AddTo(float& d, double sum, bool accumulate) { d = static_cast<float>(accumulate ? d + sum : sum); }

void MultiplyRows(float* d, int count, const RowPair& rows, const Tile& b, bool accumulate) {
  const int t = Lane() % kQuad;
  for (int i = 0; i < count; i += 4) {
    for (int column = 0; column < 2; ++column) {
      double factors[kInner];
      b.Read(i / 4 * 8 + 2 * t + column, factors);
      for (int row = 0; row < 2; ++row) {
        double parts[4] = {};
        for (int k = 0; k < kInner; k += 4) {
          for (int j = 0; j < 4; ++j) parts[j] += rows.at[row][k + j] * factors[k + j];
        }
        AddTo(d[i + 2 * row + column], parts[0] + parts[1] + (parts[2] + parts[3]), accumulate);
      }
    }
  }
}

}  // namespace

void LoadMatrices(uint32_t (&to)[4], uint32_t from, bool transposed) {
  FromShared(from, kMatrixRowBytes, kMatrixRowBytes);
  const Exchange& exchange = ExchangeOf(kAllLanes, transposed ? "ldmatrix.trans" : "ldmatrix", from);
  const int g = Lane() / kQuad, t = Lane() % kQuad;
  for (int matrix = 0; matrix < 4; ++matrix) {
    uint16_t halves[2];
    for (int half = 0; half < 2; ++half) {
      const int row = transposed ? 2 * t + half : g, column = transposed ? g : 2 * t + half;
      const uint32_t address = exchange.Of<uint32_t>(matrix * kMatrixRows + row);
      std::memcpy(&halves[half], FromShared(address, kMatrixRowBytes, kMatrixRowBytes) + column * 2, 2);
    }
    to[matrix] = static_cast<uint32_t>(halves[1]) << 16 | halves[0];
  }
  // No lane goes on to overwrite what another still reads: the hardware reads as one.
  ExchangeOf(kAllLanes, "ldmatrix", 0);
}

void StoreMatrices(uint32_t to, const uint32_t (&words)[4]) {
  FromShared(to, kMatrixRowBytes, kMatrixRowBytes);
  const Exchange& exchange = ExchangeOf(kAllLanes, "stmatrix", to);
  const int g = Lane() / kQuad, t = Lane() % kQuad;
  for (int matrix = 0; matrix < 4; ++matrix) {
    const uint32_t address = exchange.Of<uint32_t>(matrix * kMatrixRows + g);
    std::memcpy(FromShared(address, kMatrixRowBytes, kMatrixRowBytes) + t * 4, &words[matrix], 4);
  }
}

void MultiplyFragments(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const Exchange& exchange = ExchangeOf(kAllLanes, "mma", SixWords{{a[0], a[1], a[2], a[3], b0, b1}});
  const int g = Lane() / kQuad, t = Lane() % kQuad;
  const RowPair rows = RowsOfFragment<SixWords>(exchange, g);
  for (int column = 0; column < 2; ++column) {
    double sums[2] = {};
    for (int of = 0; of < kQuad; ++of) {
      const SixWords words = exchange.Of<SixWords>((2 * t + column) * kQuad + of);
      for (int half = 0; half < 2; ++half) {
        const float low = Half(words.at[4], half), high = Half(words.at[5], half);
        for (int row = 0; row < 2; ++row) {
          sums[row] += rows.at[row][2 * of + half] * low + rows.at[row][2 * of + 8 + half] * high;
        }
      }
    }
    for (int row = 0; row < 2; ++row) AddTo(c[2 * row + column], sums[row], true);
  }
}

void Tile::Read(int row, double (&to)[kInner]) const {
  const auto field = [&](int at, int bits) {
    return static_cast<uint32_t>(descriptor >> at & ((uint64_t{1} << bits) - 1));
  };
  if (field(62, 2) != 1 || field(49, 3) != 0) {
    Fail("descriptor %016llx: only the 128-byte swizzle is emulated",
         static_cast<unsigned long long>(descriptor));
  }
  const uint32_t start = field(0, 14) << 4, leading = field(16, 14) << 4, stride = field(32, 14) << 4;
  if (transposed) {
    const uint32_t column = start + row / kPanelColumns * leading + row % kPanelColumns * 2;
    for (int k = 0; k < kInner; ++k) {
      const uint32_t address = Swizzled(column + k / 8 * stride + k % 8 * kPanelRowBytes);
      uint16_t bits;
      std::memcpy(&bits, FromShared(address, sizeof(bits), sizeof(bits)), sizeof(bits));
      to[k] = FromBits(bits);
    }
    return;
  }
  constexpr int kPiece = 8;  // elements of 16 bytes, which the swizzle leaves together
  const uint32_t first = start + row / 8 * stride + row % 8 * kPanelRowBytes;
  for (int k = 0; k < kInner; k += kPiece) {
    uint16_t bits[kPiece];
    std::memcpy(bits, FromShared(Swizzled(first + k * 2), sizeof(bits), sizeof(bits)), sizeof(bits));
    for (int i = 0; i < kPiece; ++i) to[k + i] = FromBits(bits[i]);
  }
}

namespace {

// Both tiles of a product; no A where it is a fragment.
struct Operands {
  Tile a, b;
};
// What `.aligned` asks for: the whole warp, with the same operands.
void RequireWholeWarp(const Operands& operands) {
  const Exchange& exchange = ExchangeOf(kAllLanes, "wgmma", operands);
  if (exchange.lanes != kAllLanes) Fail("wgmma by lanes %08x of a warp", exchange.lanes);
  const auto first = exchange.Of<Operands>(0);
  if (!(first.a == operands.a) || !(first.b == operands.b)) Fail("a warp's lanes multiply different tiles");
}

}  // namespace

void MultiplyTiles(float* d, int count, Tile a, Tile b, bool accumulate) {
  RequireWholeWarp({a, b});
  const int thread = static_cast<int>(threadIdx.x) % (4 * kWarp);
  AddWork(Work::kProducts, [=] {
    const int first = thread / kWarp * kWarpRows + thread % kWarp / kQuad;
    RowPair rows;
    for (int row = 0; row < 2; ++row) a.Read(first + 8 * row, rows.at[row]);
    MultiplyRows(d, count, rows, b, accumulate);
  });
}

void MultiplyFragmentByTile(float* d, int count, Fragment a, Tile b, bool accumulate) {
  RequireWholeWarp({{}, b});
  AddWork(Work::kProducts, [=] {
    const FourWords words = {{*a.at[0], *a.at[1], *a.at[2], *a.at[3]}};
    const RowPair rows =
        RowsOfFragment<FourWords>(ExchangeOf(kAllLanes, "wgmma's fragments", words), Lane() / kQuad);
    MultiplyRows(d, count, rows, b, accumulate);
  });
}

void CommitProducts() {
  ExchangeOf(kAllLanes, "wgmma.commit_group", 0);
  CommitWork(Work::kProducts);
}
void WaitForProducts(int groups) {
  ExchangeOf(kAllLanes, "wgmma.wait_group", groups);
  WaitForWork(Work::kProducts, static_cast<size_t>(groups));
  ExchangeOf(kAllLanes, "wgmma.wait_group", groups);
}

}  // namespace tanren::emulation
