#include "stages/common/document_source.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "kernels/random.h"

namespace tanren {
namespace {

// Random streams of a store: its order and its grid's shifts.
constexpr uint64_t kOrderStream = 0x6f72646572;
constexpr uint64_t kShiftStream = 0x7368696674;

}  // namespace

absl::StatusOr<std::unique_ptr<DocumentSource>> DocumentSource::Make(std::vector<Part> parts,
                                                                     const Options& options) {
  if (parts.empty()) return InvalidInput("there is no corpus to read");
  for (const Part& part : parts) {
    if (part.store->num_tokens() < 2) {
      return InvalidInput("a corpus of %d tokens is too small: a prediction needs two",
                          part.store->num_tokens());
    }
    if (!(part.weight > 0) || !std::isfinite(part.weight)) {
      return InvalidInput("a corpus has the weight %g; weights are above 0", part.weight);
    }
  }
  return std::unique_ptr<DocumentSource>(new DocumentSource(std::move(parts), options));
}

DocumentSource::DocumentSource(std::vector<Part> parts, const Options& options)
    : parts_(std::move(parts)), options_(options), taken_(parts_.size(), 0) {
  for (const Part& part : parts_) {
    const int64_t inputs = part.store->num_tokens() - 1;
    Grid grid;
    grid.slice_tokens = std::min(options.sequence_length, inputs);
    // The grid may be shifted by as much as leaves one slice whole.
    const bool shifts = options.shuffle && options.endless;
    grid.shifts = shifts ? std::min(grid.slice_tokens, inputs - grid.slice_tokens + 1) : 1;
    if (!options.endless) {
      grid.slices = (inputs + grid.slice_tokens - 1) / grid.slice_tokens;
    } else {
      grid.slices = (inputs - (grid.shifts - 1)) / grid.slice_tokens;
    }
    grids_.push_back(grid);
  }
}

void DocumentSource::Rewind() { std::fill(taken_.begin(), taken_.end(), 0); }

absl::StatusOr<UnitRef> DocumentSource::Next() {
  size_t chosen = parts_.size();
  if (options_.endless) {
    double total_weight = 0;
    double total_tokens = 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
      total_weight += parts_[i].weight;
      total_tokens += static_cast<double>(taken_[i]) * grids_[i].slice_tokens;
    }
    double worst = -INFINITY;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const double due = (total_tokens + grids_[i].slice_tokens) * parts_[i].weight / total_weight;
      const double behind = due - static_cast<double>(taken_[i]) * grids_[i].slice_tokens;
      if (behind <= worst) continue;
      worst = behind;
      chosen = i;
    }
  } else {
    for (size_t i = 0; i < parts_.size() && chosen == parts_.size(); ++i) {
      if (taken_[i] < grids_[i].slices) chosen = i;
    }
    if (chosen == parts_.size()) return absl::OutOfRangeError("the validation data has ended");
  }
  UnitRef ref;
  ref.index = taken_[chosen]++;
  ref.key = static_cast<int64_t>(chosen);
  ref.tokens = SliceOf(ref).tokens;
  return ref;
}

DocumentSource::Slice DocumentSource::SliceOf(const UnitRef& ref) const {
  const Grid& grid = grids_[ref.key];
  const int64_t inputs = parts_[ref.key].store->num_tokens() - 1;
  const uint64_t epoch = static_cast<uint64_t>(ref.index / grid.slices);
  uint64_t place = static_cast<uint64_t>(ref.index % grid.slices);
  int64_t shift = 0;
  // Each (store, epoch) has its own order and shift.
  const uint64_t stream = (static_cast<uint64_t>(ref.key) << 40) ^ epoch;
  if (options_.shuffle && options_.endless) {
    place = kernels::PermuteIndex(options_.seed, kOrderStream ^ (stream << 8),
                                  static_cast<uint64_t>(grid.slices), place);
  }
  if (grid.shifts > 1) {
    shift = static_cast<int64_t>(
        kernels::RandomBelow(options_.seed, kShiftStream, stream, static_cast<uint64_t>(grid.shifts)));
  }
  Slice slice;
  slice.begin = shift + static_cast<int64_t>(place) * grid.slice_tokens;
  slice.tokens = std::min(grid.slice_tokens, inputs - slice.begin);
  return slice;
}

absl::Status DocumentSource::Load(const UnitRef& ref, Unit* unit) {
  if (ref.key < 0 || ref.key >= static_cast<int64_t>(parts_.size()) || ref.index < 0) {
    return InvalidInput("unit %d of corpus %d does not exist", ref.index, ref.key);
  }
  const TokenStore& store = *parts_[ref.key].store;
  const Slice slice = SliceOf(ref);
  std::vector<int32_t> tokens(slice.tokens + 1);
  TANREN_RETURN_IF_ERROR(store.Read(slice.begin, absl::MakeSpan(tokens)));
  *unit = Unit();
  unit->ids.assign(tokens.begin(), tokens.end() - 1);
  unit->targets.assign(tokens.begin() + 1, tokens.end());
  unit->mask.assign(slice.tokens, 1);
  if (!options_.isolate_documents) {
    unit->segment_lengths = {static_cast<int32_t>(slice.tokens)};
    return absl::OkStatus();
  }
  const int64_t end = slice.begin + slice.tokens;
  int64_t document = store.DocumentContaining(slice.begin);
  for (int64_t at = slice.begin; at < end; ++document) {
    const int64_t boundary = store.DocumentBegin(document + 1);
    const int64_t segment_end = std::min(boundary, end);
    unit->segment_lengths.push_back(static_cast<int32_t>(segment_end - at));
    // The last token of a document says nothing of the next document's first.
    if (boundary <= end) {
      unit->targets[boundary - 1 - slice.begin] = -1;
      unit->mask[boundary - 1 - slice.begin] = 0;
    }
    at = segment_end;
  }
  return absl::OkStatus();
}

std::string DocumentSource::Identity() const {
  std::string identity = absl::StrCat("documents 1 ", options_.sequence_length, " ",
                                      options_.isolate_documents, " ", options_.shuffle, " ", options_.seed);
  for (const Part& part : parts_)
    absl::StrAppend(&identity, " ", part.store->content_hash(), "*", part.weight);
  return identity;
}

std::string DocumentSource::SaveState() const {
  std::string state = Identity() + "\n";
  for (int64_t taken : taken_) absl::StrAppend(&state, taken, "\n");
  return state;
}

absl::Status DocumentSource::RestoreState(const std::string& state) {
  const std::vector<std::string> lines = absl::StrSplit(state, '\n');
  if (lines[0] != Identity()) {
    return InvalidInput(
        "the checkpoint's data cursor belongs to other data or another order (was \"%s\", is \"%s\"); "
        "restore "
        "data.train (weights too), data.sequence_length, data.documents, data.shuffle and seed, or start a "
        "new run with init.from",
        lines[0], Identity());
  }
  if (lines.size() != parts_.size() + 2) return InvalidInput("the checkpoint's data cursor is damaged");
  std::vector<int64_t> taken(parts_.size());
  for (size_t i = 0; i < parts_.size(); ++i) {
    if (!absl::SimpleAtoi(lines[i + 1], &taken[i]) || taken[i] < 0) {
      return InvalidInput("the checkpoint's data cursor is damaged: line %d", i + 1);
    }
  }
  taken_ = std::move(taken);
  return absl::OkStatus();
}

}  // namespace tanren
