// How far two judges of the same answers agree.
#ifndef TANREN_CORE_REWARD_AGREEMENT_H_
#define TANREN_CORE_REWARD_AGREEMENT_H_

#include <cstdint>
#include <span>

namespace tanren {

// The pairs of answers to one prompt, or of many, by what two rankings say of them.
struct PairAgreement {
  int64_t same = 0;         // both prefer the same answer
  int64_t opposite = 0;     // they prefer different answers
  int64_t tied_first = 0;   // a tie for the first ranking only
  int64_t tied_second = 0;  // for the second only
  int64_t tied_both = 0;

  int64_t pairs() const { return same + opposite + tied_first + tied_second + tied_both; }
  // Share of the pairs of which both say the same, ties included. NaN without a pair.
  double agreement() const;
  // Kendall's tau-b (Kendall 1945), 1 for the same order, -1 for the reverse; NaN where a ranking is all
  // ties.
  double tau_b() const;
  void Add(const PairAgreement& other);
};

// `first` and `second`: ranks of the same answers, as long as one another.
PairAgreement ComparePairs(std::span<const int32_t> first, std::span<const int32_t> second);

// Answers that two judges called good or bad.
struct LabelAgreement {
  int64_t both_good = 0;
  int64_t both_bad = 0;
  int64_t only_first_good = 0;
  int64_t only_second_good = 0;

  int64_t answers() const { return both_good + both_bad + only_first_good + only_second_good; }
  // Share of equal labels. NaN without an answer.
  double agreement() const;
  // Cohen's kappa (Cohen 1960): agreement beyond what the judges' shares of good give by chance. NaN where
  // chance alone gives full agreement: both gave one and the same label only.
  double kappa() const;
  void Add(bool first_good, bool second_good);
};

}  // namespace tanren

#endif  // TANREN_CORE_REWARD_AGREEMENT_H_
