#include "core/data/source.h"

#include <algorithm>
#include <cstring>

#include "core/base/status.h"

namespace tanren {
namespace {

// Planner state: one byte that says whether a unit is pending, its three 64-bit fields, then the source's
// state. An endless source of which no unit fits must not be searched for ever.
constexpr int64_t kMaxDropped = 1000000;

constexpr size_t kPlannerHeaderBytes = 1 + 3 * sizeof(int64_t);

}  // namespace

absl::StatusOr<StepPlan> StepPlanner::Next() {
  StepPlan plan;
  int64_t units = 0;
  int64_t used_tokens = 0;
  while (true) {
    if (options_.units > 0 && units == options_.units) break;
    if (!pending_.has_value()) {
      absl::StatusOr<UnitRef> next = source_->Next();
      if (absl::IsOutOfRange(next.status()) && !plan.micro_batches.empty()) break;
      if (!next.ok()) return next.status();
      pending_ = *next;
    }
    if (pending_->tokens > options_.micro_batch_tokens) {
      if (!options_.drop_oversize) {
        return InvalidInput(
            "unit %d of the data has %d tokens, more than batch.micro_batch_tokens (%d); raise the capacity, "
            "or set "
            "batch.oversize: drop to skip and count such units",
            pending_->index, pending_->tokens, options_.micro_batch_tokens);
      }
      if (++plan.oversize_units > kMaxDropped) {
        return InvalidInput("%d units in a row exceed batch.micro_batch_tokens (%d); raise the capacity",
                            plan.oversize_units, options_.micro_batch_tokens);
      }
      pending_.reset();
      continue;
    }
    if (plan.micro_batches.empty() || used_tokens + pending_->tokens > options_.micro_batch_tokens) {
      const bool full =
          options_.units == 0 && static_cast<int64_t>(plan.micro_batches.size()) == options_.micro_batches;
      if (full) break;
      plan.micro_batches.emplace_back();
      used_tokens = 0;
    }
    used_tokens += pending_->tokens;
    plan.micro_batches.back().push_back(*pending_);
    pending_.reset();
    ++units;
  }
  return plan;
}

absl::Status StepPlanner::Skip(int64_t steps) {
  for (int64_t s = 0; s < steps; ++s) TANREN_RETURN_IF_ERROR(Next().status());
  return absl::OkStatus();
}

std::string StepPlanner::SaveState() const {
  const UnitRef ref = pending_.value_or(UnitRef());
  const int64_t fields[3] = {ref.index, ref.tokens, ref.key};
  std::string state(kPlannerHeaderBytes, '\0');
  state[0] = pending_.has_value() ? 1 : 0;
  std::memcpy(state.data() + 1, fields, sizeof(fields));
  return state + source_->SaveState();
}

absl::Status StepPlanner::RestoreState(const std::string& state) {
  if (state.size() < kPlannerHeaderBytes || (state[0] != 0 && state[0] != 1)) {
    return InvalidInput("the saved data cursor is damaged: %d bytes", state.size());
  }
  int64_t fields[3];
  std::memcpy(fields, state.data() + 1, sizeof(fields));
  TANREN_RETURN_IF_ERROR(source_->RestoreState(state.substr(kPlannerHeaderBytes)));
  pending_.reset();
  if (state[0] == 1) pending_ = UnitRef{fields[0], fields[1], fields[2]};
  return absl::OkStatus();
}

DealtRange DealMicroBatches(int64_t micro_batches, int rank, int size) {
  const int64_t each = micro_batches / size;
  const int64_t more = micro_batches % size;
  const int64_t begin = rank * each + std::min<int64_t>(rank, more);
  return {begin, begin + each + (rank < more ? 1 : 0)};
}

absl::Status LoadMicroBatch(Source& source, const std::vector<UnitRef>& refs, int64_t capacity,
                            MicroBatch* batch) {
  std::vector<Unit> units(refs.size());
  for (size_t i = 0; i < refs.size(); ++i) {
    TANREN_RETURN_IF_ERROR(source.Load(refs[i], &units[i]));
    if (units[i].tokens() != refs[i].tokens) {
      return absl::InternalError(absl::StrCat("unit ", refs[i].index, " was announced with ", refs[i].tokens,
                                              " tokens and has ", units[i].tokens()));
    }
  }
  return PackMicroBatch(units, capacity, batch);
}

}  // namespace tanren
