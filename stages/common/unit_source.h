// Units that are held in memory: the source of all post-training stages.
#ifndef TANREN_STAGES_COMMON_UNIT_SOURCE_H_
#define TANREN_STAGES_COMMON_UNIT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/data/source.h"

namespace tanren {

// A file's worth of units, in the file's order.
struct UnitSet {
  std::vector<Unit> units;
  double weight = 1;  // share of the drawn units, relative to the other sets

  // SHA-256 of all that the units hold.
  std::string ContentHash() const;
};

// Training is endless: each epoch of a set goes through it once in a new order drawn from the seed, or in
// order without `shuffle`; of several sets the one furthest behind its share comes next. Validation is one
// pass in order.
class UnitSource final : public Source {
 public:
  struct Options {
    bool shuffle = true;
    bool endless = true;
    uint64_t seed = 1;
  };
  // The sets are not empty.
  UnitSource(std::vector<UnitSet> sets, const Options& options);

  absl::StatusOr<UnitRef> Next() override;
  absl::Status Load(const UnitRef& ref, Unit* unit) override;
  std::string SaveState() const override;
  absl::Status RestoreState(const std::string& state) override;

  // Without a copy. `ref` as Next() returned it.
  const Unit& At(const UnitRef& ref) const;
  void Rewind();
  int64_t units() const;  // of one epoch of all sets

 private:
  std::vector<UnitSet> sets_;
  Options options_;
  std::string identity_;
  std::vector<int64_t> taken_;  // units taken from each set
};

// Mixes two sources by tokens: `share` of them come from `second`, the next unit from the one that is behind.
// Units of `second` get the token column "weight" of 1 where they lack it.
class MixedSource final : public Source {
 public:
  MixedSource(Source* first, Source* second, double share) : first_(first), second_(second), share_(share) {}

  absl::StatusOr<UnitRef> Next() override;
  absl::Status Load(const UnitRef& ref, Unit* unit) override;
  std::string SaveState() const override;
  absl::Status RestoreState(const std::string& state) override;

 private:
  Source* first_;
  Source* second_;
  double share_;
  int64_t first_tokens_ = 0;
  int64_t second_tokens_ = 0;
};

}  // namespace tanren

#endif  // TANREN_STAGES_COMMON_UNIT_SOURCE_H_
