// Softmax attention of a block of query rows over one head's keys and values (Dao et al. 2022: online softmax
// over blocks of keys). Shared by the forward kernel and the cached kernel; included once per instruction
// set.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "hwy/highway.h"

#if defined(TANREN_KERNELS_CPU_ATTENTION_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef TANREN_KERNELS_CPU_ATTENTION_ROWS_INL_H_
#undef TANREN_KERNELS_CPU_ATTENTION_ROWS_INL_H_
#else
#define TANREN_KERNELS_CPU_ATTENTION_ROWS_INL_H_
#endif

#include "kernels/cpu/attention_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace tanren::kernels {
namespace HWY_NAMESPACE {
namespace {

// The state of up to `capacity` query rows: their packed queries, the keys [first, last) that each sees, and
// what the online softmax carries from block to block.
struct QueryRows {
  int64_t rows = 0;
  int64_t head_dim = 0;
  int64_t ld = 0;
  float* query = nullptr;   // [rows, ld], times ScoreScale::factor
  float* output = nullptr;  // [rows, ld], not yet divided by the sum of weights
  float* total = nullptr;   // [rows, kLaneMultiple]: the sum of weights, by lane
  float* max = nullptr;     // [rows]: the largest score so far (as an exponent of two)
  int64_t* first = nullptr;
  int64_t* last = nullptr;
  // Scratch of one key block.
  float* keys = nullptr;     // [head_dim, kKeyTile]
  float* values = nullptr;   // [kKeyTile, ld]
  float* weights = nullptr;  // [kRowBlock, kKeyTile]

  // Carves all of it out of the thread's scratch memory.
  QueryRows(int64_t capacity, int64_t width) : head_dim(width), ld(attention::PaddedWidth(width)) {
    const int64_t range = capacity * static_cast<int64_t>(sizeof(int64_t) / sizeof(float));
    const int64_t padded_rows = (capacity + 15) / 16 * 16;
    float* at = attention::ThreadScratch(2 * capacity * ld + capacity * attention::kLaneMultiple +
                                         padded_rows + kKeyTile * (2 * ld + kRowBlock) + 2 * range + 64);
    const auto take = [&at](int64_t floats) {
      float* begin = at;
      at += (floats + 15) / 16 * 16;
      return begin;
    };
    query = take(capacity * ld);
    output = take(capacity * ld);
    total = take(capacity * attention::kLaneMultiple);
    max = take(capacity);
    keys = take(kKeyTile * ld);
    values = take(kKeyTile * ld);
    weights = take(kRowBlock * kKeyTile);
    first = reinterpret_cast<int64_t*>(take(range));
    last = reinterpret_cast<int64_t*>(take(range));
  }

  void Reset(int64_t count) {
    rows = count;
    std::fill_n(output, count * ld, 0.0f);
    std::fill_n(total, count * attention::kLaneMultiple, 0.0f);
    std::fill_n(max, count, -std::numeric_limits<float>::infinity());
  }
};

// Turns one row of scores into weights and moves the row's maximum and total; returns what the row's earlier
// output is to be multiplied by. Keys outside [first, last) of the block get weight zero.
template <bool kCapped>
HWY_INLINE float SoftmaxRow(const ScoreScale& scale, int64_t first, int64_t last, int64_t width, float* row,
                            float* max, float* total) {
  constexpr float kNone = -std::numeric_limits<float>::infinity();
  const F32 d;
  const int64_t lanes = hn::Lanes(d);
  const bool masked = first > 0 || last < width;
  VF32 largest = hn::Set(d, kNone);
  for (int64_t i = 0; i < width; i += lanes) {
    VF32 s = hn::LoadU(d, row + i);
    if constexpr (kCapped) s = hn::Mul(Tanh(d, s), hn::Set(d, scale.cap_log2));
    if (masked) {
      const VF32 key = hn::Iota(d, static_cast<float>(i));
      const auto seen = hn::And(hn::Ge(key, hn::Set(d, static_cast<float>(first))),
                                hn::Lt(key, hn::Set(d, static_cast<float>(last))));
      s = hn::IfThenElse(seen, s, hn::Set(d, kNone));
    }
    if (kCapped || masked) hn::StoreU(s, d, row + i);
    largest = hn::Max(largest, s);
  }
  const float before = *max;
  const float now = std::max(before, MaxLanes(d, largest));
  // A row that has seen no key yet keeps weights of zero (2^-inf), not the NaN of inf - inf.
  const float shift = now == kNone ? 0.0f : now;
  const VF32 by = hn::Set(d, shift);
  VF32 sum = hn::Zero(d);
  for (int64_t i = 0; i < width; i += lanes) {
    const VF32 weight = Exp2NonPositive(d, hn::Sub(hn::LoadU(d, row + i), by));
    hn::StoreU(weight, d, row + i);
    sum = hn::Add(sum, weight);
  }
  const float rescale = hn::GetLane(Exp2NonPositive(d, hn::Set(d, before - shift)));
  hn::StoreU(hn::MulAdd(hn::LoadU(d, total), hn::Set(d, rescale), sum), d, total);
  *max = now;
  return rescale;
}

// One block of at most kRowBlock rows against the packed block of keys that begins at key `begin`.
template <bool kCapped>
void AttendBlock(const QueryRows& q, const ScoreScale& scale, int64_t row, int64_t rows, int64_t begin) {
  const int64_t lanes = hn::Lanes(F32());
  int64_t low = kKeyTile, high = 0;  // what any row of the block sees
  for (int64_t r = row; r < row + rows; ++r) {
    const int64_t first = std::max<int64_t>(q.first[r] - begin, 0),
                  last = std::min(q.last[r] - begin, kKeyTile);
    if (first >= last) continue;
    low = std::min(low, first);
    high = std::max(high, last);
  }
  if (low >= high) return;
  const int64_t width = (high + lanes - 1) / lanes * lanes;
  BlockProduct<false, Into::kWrite>({.a = q.query + row * q.ld,
                                     .lda = q.ld,
                                     .b = q.keys,
                                     .ldb = kKeyTile,
                                     .c = q.weights,
                                     .ldc = kKeyTile,
                                     .depth = q.head_dim},
                                    rows, width);
  float rescale[kRowBlock];
  for (int64_t r = 0; r < rows; ++r) {
    rescale[r] = SoftmaxRow<kCapped>(scale, q.first[row + r] - begin, q.last[row + r] - begin, width,
                                     q.weights + r * kKeyTile, q.max + row + r,
                                     q.total + (row + r) * attention::kLaneMultiple);
  }
  BlockProduct<false, Into::kScaleAdd>({.a = q.weights + low,
                                        .lda = kKeyTile,
                                        .b = q.values + low * q.ld,
                                        .ldb = q.ld,
                                        .c = q.output + row * q.ld,
                                        .ldc = q.ld,
                                        .depth = high - low,
                                        .scale = rescale},
                                       rows, q.ld);
}

// Attends all rows to keys and values at k + key * stride and v + key * v_stride.
template <class T>
void AttendRows(const QueryRows& q, const ScoreScale& scale, const T* k, int64_t k_stride, const T* v,
                int64_t v_stride) {
  int64_t low = std::numeric_limits<int64_t>::max(), high = 0;
  for (int64_t r = 0; r < q.rows; ++r) {
    low = std::min(low, q.first[r]);
    high = std::max(high, q.last[r]);
  }
  for (int64_t begin = low / kKeyTile * kKeyTile; begin < high; begin += kKeyTile) {
    const int64_t keys = std::min(kKeyTile, high - begin);
    PackTransposed(keys, q.head_dim, k + begin * k_stride, k_stride, 1.0f, q.keys);
    PackRows(keys, q.head_dim, v + begin * v_stride, v_stride, 1.0f, q.values, q.ld);
    for (int64_t row = 0; row < q.rows; row += kRowBlock) {
      const int64_t rows = std::min<int64_t>(kRowBlock, q.rows - row);
      if (scale.capped) {
        AttendBlock<true>(q, scale, row, rows, begin);
      } else {
        AttendBlock<false>(q, scale, row, rows, begin);
      }
    }
  }
}

// Writes row r's output, and its log-sum-exp when `lse` is given.
template <class T>
void FinishRow(const QueryRows& q, int64_t r, T* output, float* lse) {
  const F32 d;
  const float total = SumLanes(d, hn::LoadU(d, q.total + r * attention::kLaneMultiple));
  StoreRow(q.head_dim, q.output + r * q.ld, 1.0f / total, output);
  if (lse != nullptr) *lse = q.max[r] * attention::kLn2 + std::log(total);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace tanren::kernels
HWY_AFTER_NAMESPACE();

#endif  // per-target guard
