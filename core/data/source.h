// Where units come from, and how a stream of units becomes steps.
#ifndef TANREN_CORE_DATA_SOURCE_H_
#define TANREN_CORE_DATA_SOURCE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/data/batch.h"

namespace tanren {

// Names a unit without holding it: cheap to hand out on every rank, loaded only where it is computed.
struct UnitRef {
  int64_t index = 0;   // place in the order of the source, or of the part of it that `key` names
  int64_t tokens = 0;  // exact length of the unit, over all its segments
  int64_t key = 0;     // the source's own: which sub-source, which record
};

// An endless, deterministic, rank-free order of units. All ranks hold the same state.
class Source {
 public:
  virtual ~Source() = default;

  // The next unit in global order. OutOfRange when a finite source (validation) has ended.
  virtual absl::StatusOr<UnitRef> Next() = 0;

  // The unit behind a reference that Next() returned, now or before a restart. Thread-compatible.
  virtual absl::Status Load(const UnitRef& ref, Unit* unit) = 0;

  // The cursor, without rank, layout or batch size in it. Restore refuses a state of another data set.
  virtual std::string SaveState() const = 0;
  virtual absl::Status RestoreState(const std::string& state) = 0;
};

// A step before its tokens are read: micro-batches of whole units, in global order.
struct StepPlan {
  std::vector<std::vector<UnitRef>> micro_batches;
  int64_t oversize_units = 0;  // dropped because they exceed the capacity
};

// Cuts a source's order into steps. First fit in order: a unit that does not fit closes its micro-batch and
// opens the next, so the order of units never changes and every layout cuts alike.
class StepPlanner {
 public:
  struct Options {
    int64_t micro_batch_tokens = 0;  // capacity
    int64_t micro_batches = 0;       // a step is this many micro-batches ...
    int64_t units = 0;               // ... or this many units, when > 0
    bool drop_oversize = false;      // else a unit longer than the capacity is an error
  };
  StepPlanner(Source* source, const Options& options) : source_(source), options_(options) {}

  // OutOfRange at the end of a finite source when nothing is left; the last step of such a source may be
  // short.
  absl::StatusOr<StepPlan> Next();
  // Passes over so many steps.
  absl::Status Skip(int64_t steps);

  // The source's state and the unit that was read but not yet planned.
  std::string SaveState() const;
  absl::Status RestoreState(const std::string& state);

 private:
  Source* source_;
  Options options_;
  std::optional<UnitRef> pending_;
};

// The micro-batches of `plan` that data rank `rank` of `size` computes: a contiguous run of the global order,
// the first ranks one more when they do not divide.
struct DealtRange {
  int64_t begin = 0;
  int64_t end = 0;
};
DealtRange DealMicroBatches(int64_t micro_batches, int rank, int size);

// Loads and packs one micro-batch.
absl::Status LoadMicroBatch(Source& source, const std::vector<UnitRef>& units, int64_t capacity,
                            MicroBatch* batch);

}  // namespace tanren

#endif  // TANREN_CORE_DATA_SOURCE_H_
