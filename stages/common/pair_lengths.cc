#include "stages/common/pair_lengths.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace tanren {
namespace {

class LengthCount {
 public:
  void Add(const Unit& unit) {
    const std::vector<int32_t>& lengths = unit.segment_lengths;
    if (const std::vector<float>* label = unit.segment_columns.Find("label")) {
      for (size_t i = 0; i < lengths.size(); ++i) AddLabelled(lengths[i], (*label)[i] > 0);
    } else if (const std::vector<float>* rank = unit.segment_columns.Find("rank")) {
      for (size_t i = 0; i < lengths.size(); ++i) {
        for (size_t j = 0; j < lengths.size(); ++j) {
          if ((*rank)[i] < (*rank)[j]) AddPair(lengths[i], lengths[j]);
        }
      }
    } else if (lengths.size() == 2) {
      AddPair(lengths[0], lengths[1]);
    }
  }

  std::string ToString() const {
    if (pairs_ > 0) {
      return absl::StrFormat(
          "%.0f pairs: the better answer has %.1f tokens, the worse %.1f (prompts included); a rule \"longer "
          "is "
          "better\" would be right in %.1f %%",
          pairs_, better_ / pairs_, worse_ / pairs_, 100 * longer_ / pairs_);
    }
    if (good_ == 0 && bad_ == 0) return "";
    const auto mean = [](double count, double tokens) {
      return count > 0 ? absl::StrFormat(", of %.1f tokens", tokens / count) : "";
    };
    return absl::StrCat(good_, " good answers", mean(good_, good_tokens_), "; ", bad_, " bad ones",
                        mean(bad_, bad_tokens_), " (prompts included)");
  }

 private:
  void AddPair(int32_t better, int32_t worse) {
    ++pairs_;
    better_ += better;
    worse_ += worse;
    longer_ += better > worse ? 1 : better == worse ? 0.5 : 0;
  }
  void AddLabelled(int32_t tokens, bool good) {
    ++(good ? good_ : bad_);
    (good ? good_tokens_ : bad_tokens_) += tokens;
  }

  double pairs_ = 0, better_ = 0, worse_ = 0, longer_ = 0;
  double good_ = 0, good_tokens_ = 0, bad_ = 0, bad_tokens_ = 0;
};

}  // namespace

std::string PairLengths(const std::vector<UnitSet>& sets) {
  LengthCount count;
  for (const UnitSet& set : sets) {
    for (const Unit& unit : set.units) count.Add(unit);
  }
  return count.ToString();
}

}  // namespace tanren
