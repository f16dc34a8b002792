// Sums of gradients in fixed point: integers of 64 bits, whose addition is exact and so does not depend on
// its order, nor on which rank adds which terms.
#ifndef TANREN_KERNELS_FIXED_SUM_H_
#define TANREN_KERNELS_FIXED_SUM_H_

#include <cmath>
#include <cstdint>

#include "kernels/types.h"

namespace tanren::kernels {

// Terms are to be smaller than this many units.
inline constexpr int64_t kFixedTermLimit = int64_t{1} << 50;

// sum [count] += x / unit, rounded to the nearest integer, ties to even; x [count] = 0. `unit` is a power of
// two. *largest = max(*largest, |x|) as the bits of a float, whose order as integers puts NaN above infinity
// and infinity above all numbers: where it says that a term was no smaller than kFixedTermLimit units, the
// sums mean nothing. *largest is host memory on the CPU, device memory on a GPU.
void AddFixed(const Stream& stream, int64_t count, double unit, float* x, int64_t* sum, int32_t* largest);

// x [count] = sum * unit, rounded to double, then to float. squares[0] += and squares[1] += the words of a
// sum of (x / bound)^2 (SquareWords below), host memory on the CPU, device memory on a GPU. `bound`: a power
// of two that no |x| exceeds.
void FixedToFloat(const Stream& stream, int64_t count, const int64_t* sum, double unit, double bound,
                  float* x, int64_t* squares);

// A number in [0, 1] in fixed point: `high` units of 2^-30 and `low` of 2^-60; what is below is cut off. Up
// to 2^33 of them can be added word by word.
struct SquareWords {
  int64_t high = 0;
  int64_t low = 0;
};
TANREN_HOST_DEVICE inline SquareWords SquareOf(double x) {
  constexpr double kUnits = 1 << 30;
  const double square = x * x * kUnits;  // exact of a float times a power of two: 48 bits
  SquareWords words;
  words.high = static_cast<int64_t>(square);
  words.low = static_cast<int64_t>((square - static_cast<double>(words.high)) * kUnits);
  return words;
}
inline double SumOfWords(const int64_t* squares) {
  return std::ldexp(static_cast<double>(squares[0]), -30) + std::ldexp(static_cast<double>(squares[1]), -60);
}

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_FIXED_SUM_H_
