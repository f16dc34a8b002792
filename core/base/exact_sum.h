// A sum of doubles without rounding errors: it does not depend on the order of its terms, nor on which ranks
// add which of them.
//
// The sum is a fixed-point number wide enough for every double (Kulisch 2013, "Computer Arithmetic and
// Validity"), in digits of 32 bits that sit in words of 64: carries wait until the sum is read, so sums are
// added word by word, by an all-reduce of integers too. Up to 2^31 - 1 terms.
#ifndef TANREN_CORE_BASE_EXACT_SUM_H_
#define TANREN_CORE_BASE_EXACT_SUM_H_

#include <array>
#include <cstdint>

namespace tanren {

class ExactSum {
 public:
  static constexpr int kDigits = 67;             // from 2^-1074 to 2^1070
  static constexpr int kWords = kDigits + 3;     // and how many terms were NaN, infinity and -infinity
  static constexpr int kLowestExponent = -1074;  // of the smallest double

  void Add(double term);

  // The sum rounded to the nearest double, ties to even; NaN and infinities as in an ordinary sum.
  double Round() const;

  // To be added to another sum's; kWords of them.
  int64_t* words() { return words_.data(); }

 private:
  std::array<int64_t, kWords> words_{};
};

}  // namespace tanren

#endif  // TANREN_CORE_BASE_EXACT_SUM_H_
