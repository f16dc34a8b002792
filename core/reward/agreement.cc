#include "core/reward/agreement.h"

#include <cmath>
#include <limits>

#include "core/base/status.h"

namespace tanren {
namespace {

double Quotient(double value, double divisor) {
  return divisor == 0 ? std::numeric_limits<double>::quiet_NaN() : value / divisor;
}

}  // namespace

double PairAgreement::agreement() const {
  return Quotient(static_cast<double>(same + tied_both), static_cast<double>(pairs()));
}

double PairAgreement::tau_b() const {
  const double ordered_first = static_cast<double>(same + opposite + tied_second);
  const double ordered_second = static_cast<double>(same + opposite + tied_first);
  return Quotient(static_cast<double>(same - opposite), std::sqrt(ordered_first * ordered_second));
}

void PairAgreement::Add(const PairAgreement& other) {
  same += other.same;
  opposite += other.opposite;
  tied_first += other.tied_first;
  tied_second += other.tied_second;
  tied_both += other.tied_both;
}

PairAgreement ComparePairs(std::span<const int32_t> first, std::span<const int32_t> second) {
  TANREN_CHECK(first.size() == second.size());
  PairAgreement pairs;
  for (size_t i = 0; i < first.size(); ++i) {
    for (size_t j = i + 1; j < first.size(); ++j) {
      const bool first_tied = first[i] == first[j];
      const bool second_tied = second[i] == second[j];
      if (first_tied || second_tied) {
        ++(first_tied && second_tied ? pairs.tied_both : first_tied ? pairs.tied_first : pairs.tied_second);
      } else {
        ++((first[i] < first[j]) == (second[i] < second[j]) ? pairs.same : pairs.opposite);
      }
    }
  }
  return pairs;
}

double LabelAgreement::agreement() const {
  return Quotient(static_cast<double>(both_good + both_bad), static_cast<double>(answers()));
}

double LabelAgreement::kappa() const {
  const double count = static_cast<double>(answers());
  const double first_good = static_cast<double>(both_good + only_first_good);
  const double second_good = static_cast<double>(both_good + only_second_good);
  // Numbers of answers, not shares: whole numbers are exact.
  const double chance = first_good * second_good + (count - first_good) * (count - second_good);
  return Quotient(static_cast<double>(both_good + both_bad) * count - chance, count * count - chance);
}

void LabelAgreement::Add(bool first_good, bool second_good) {
  if (first_good && second_good) {
    ++both_good;
  } else if (first_good) {
    ++only_first_good;
  } else if (second_good) {
    ++only_second_good;
  } else {
    ++both_bad;
  }
}

}  // namespace tanren
