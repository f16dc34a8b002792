#include "stages/common/unit_source.h"

#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/sha256.h"
#include "core/base/status.h"
#include "kernels/random.h"

namespace tanren {
namespace {

constexpr uint64_t kOrderStream = 0x756e697473;
// Marks a unit of MixedSource's second source in its key.
constexpr int64_t kSecond = int64_t{1} << 62;

template <class T>
void Append(const std::vector<T>& values, std::string* bytes) {
  const uint64_t count = values.size();
  bytes->append(reinterpret_cast<const char*>(&count), sizeof(count));
  bytes->append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

void Append(const Columns& columns, std::string* bytes) {
  for (const Columns::Column& column : columns.all()) {
    bytes->append(column.name).push_back('\0');
    Append(column.values, bytes);
  }
}

}  // namespace

std::string UnitSet::ContentHash() const {
  Sha256 hash;
  std::string bytes;
  for (const Unit& unit : units) {
    bytes.clear();
    Append(unit.ids, &bytes);
    Append(unit.targets, &bytes);
    Append(unit.mask, &bytes);
    Append(unit.segment_lengths, &bytes);
    Append(unit.columns, &bytes);
    Append(unit.segment_columns, &bytes);
    hash.Update(bytes);
  }
  return hash.HexDigest();
}

UnitSource::UnitSource(std::vector<UnitSet> sets, const Options& options)
    : sets_(std::move(sets)), options_(options), taken_(sets_.size(), 0) {
  identity_ = absl::StrCat("units 1 ", options_.shuffle, " ", options_.seed);
  for (const UnitSet& set : sets_) {
    TANREN_CHECK(!set.units.empty());
    absl::StrAppend(&identity_, " ", set.ContentHash(), "*", set.weight);
  }
}

int64_t UnitSource::units() const {
  int64_t count = 0;
  for (const UnitSet& set : sets_) count += static_cast<int64_t>(set.units.size());
  return count;
}

void UnitSource::Rewind() { std::fill(taken_.begin(), taken_.end(), 0); }

absl::StatusOr<UnitRef> UnitSource::Next() {
  size_t chosen = sets_.size();
  if (options_.endless) {
    double weights = 0, total = 0;
    for (size_t i = 0; i < sets_.size(); ++i) {
      weights += sets_[i].weight;
      total += static_cast<double>(taken_[i]);
    }
    double worst = -INFINITY;
    for (size_t i = 0; i < sets_.size(); ++i) {
      const double behind = (total + 1) * sets_[i].weight / weights - static_cast<double>(taken_[i]);
      if (behind <= worst) continue;
      worst = behind;
      chosen = i;
    }
  } else {
    for (size_t i = 0; i < sets_.size() && chosen == sets_.size(); ++i) {
      if (taken_[i] < static_cast<int64_t>(sets_[i].units.size())) chosen = i;
    }
    if (chosen == sets_.size()) return absl::OutOfRangeError("the examples have ended");
  }
  UnitRef ref;
  ref.index = taken_[chosen]++;
  ref.key = static_cast<int64_t>(chosen);
  ref.tokens = At(ref).tokens();
  return ref;
}

const Unit& UnitSource::At(const UnitRef& ref) const {
  const std::vector<Unit>& units = sets_[ref.key].units;
  const uint64_t size = units.size();
  const uint64_t epoch = static_cast<uint64_t>(ref.index) / size;
  uint64_t place = static_cast<uint64_t>(ref.index) % size;
  if (options_.shuffle && options_.endless) {
    const uint64_t stream = kOrderStream ^ (((static_cast<uint64_t>(ref.key) << 40) ^ epoch) << 8);
    place = kernels::PermuteIndex(options_.seed, stream, size, place);
  }
  return units[place];
}

absl::Status UnitSource::Load(const UnitRef& ref, Unit* unit) {
  if (ref.key < 0 || ref.key >= static_cast<int64_t>(sets_.size()) || ref.index < 0) {
    return InvalidInput("unit %d of example file %d does not exist", ref.index, ref.key);
  }
  *unit = At(ref);
  return absl::OkStatus();
}

std::string UnitSource::SaveState() const {
  std::string state = identity_ + "\n";
  for (int64_t taken : taken_) absl::StrAppend(&state, taken, "\n");
  return state;
}

absl::Status UnitSource::RestoreState(const std::string& state) {
  const std::vector<std::string> lines = absl::StrSplit(state, '\n');
  if (lines[0] != identity_) {
    return InvalidInput(
        "the checkpoint's data cursor belongs to other examples or another order (was \"%s\", is \"%s\"); "
        "restore "
        "data.examples (files, weights), chat.* and seed, or start a new run with init.from",
        lines[0], identity_);
  }
  if (lines.size() != sets_.size() + 2) return InvalidInput("the checkpoint's data cursor is damaged");
  std::vector<int64_t> taken(sets_.size());
  for (size_t i = 0; i < sets_.size(); ++i) {
    if (!absl::SimpleAtoi(lines[i + 1], &taken[i]) || taken[i] < 0) {
      return InvalidInput("the checkpoint's data cursor is damaged: line %d", i + 1);
    }
  }
  taken_ = std::move(taken);
  return absl::OkStatus();
}

absl::StatusOr<UnitRef> MixedSource::Next() {
  const double total = static_cast<double>(first_tokens_ + second_tokens_);
  const bool second = static_cast<double>(second_tokens_) < share_ * total;
  TANREN_ASSIGN_OR_RETURN(UnitRef ref, (second ? second_ : first_)->Next());
  (second ? second_tokens_ : first_tokens_) += ref.tokens;
  if (second) ref.key |= kSecond;
  return ref;
}

absl::Status MixedSource::Load(const UnitRef& ref, Unit* unit) {
  if ((ref.key & kSecond) == 0) return first_->Load(ref, unit);
  UnitRef inner = ref;
  inner.key &= ~kSecond;
  TANREN_RETURN_IF_ERROR(second_->Load(inner, unit));
  unit->columns.Get("weight", unit->tokens(), 1);
  return absl::OkStatus();
}

// A header with the token counts and the length of the first state, then both states.
std::string MixedSource::SaveState() const {
  const std::string first = first_->SaveState();
  return absl::StrCat("mixed 1 ", share_, " ", first_tokens_, " ", second_tokens_, " ", first.size(), "\n",
                      first, second_->SaveState());
}

absl::Status MixedSource::RestoreState(const std::string& state) {
  const size_t end = state.find('\n');
  const std::vector<std::string> fields = absl::StrSplit(state.substr(0, end), ' ');
  size_t first_bytes = 0;
  if (end == std::string::npos || fields.size() != 6 || fields[0] != "mixed" ||
      !absl::SimpleAtoi(fields[5], &first_bytes) || first_bytes > state.size() - end - 1) {
    return InvalidInput("the checkpoint's data cursor is not one of a run with replay, or is damaged");
  }
  if (fields[2] != absl::StrCat(share_)) {
    return InvalidInput("the checkpoint's data cursor was saved with sft.replay_share %s, not %g", fields[2],
                        share_);
  }
  TANREN_RETURN_IF_ERROR(first_->RestoreState(state.substr(end + 1, first_bytes)));
  TANREN_RETURN_IF_ERROR(second_->RestoreState(state.substr(end + 1 + first_bytes)));
  if (!absl::SimpleAtoi(fields[3], &first_tokens_) || !absl::SimpleAtoi(fields[4], &second_tokens_)) {
    return InvalidInput("the checkpoint's data cursor is damaged: its token counts");
  }
  return absl::OkStatus();
}

}  // namespace tanren
