#include "core/data/batch.h"

#include <algorithm>

#include "core/base/status.h"

namespace tanren {
namespace {

// The longest tail segment: attention over the unused rest of a row costs its square.
constexpr int64_t kTailSegmentTokens = 64;

absl::Status CheckUnit(const Unit& unit) {
  int64_t total = 0;
  for (int32_t length : unit.segment_lengths) {
    if (length <= 0)
      return InvalidInput("a unit has a segment of %d tokens; segments hold at least one", length);
    total += length;
  }
  if (total != unit.tokens() || unit.targets.size() != unit.ids.size() ||
      unit.mask.size() != unit.ids.size()) {
    return InvalidInput("a unit is inconsistent: %d ids, %d targets, %d mask entries, %d tokens in segments",
                        unit.ids.size(), unit.targets.size(), unit.mask.size(), total);
  }
  for (size_t t = 0; t < unit.ids.size(); ++t) {
    if (unit.mask[t] && unit.targets[t] < 0)
      return InvalidInput("position %d of a unit is trained but has no target", t);
  }
  return absl::OkStatus();
}

absl::Status CopyColumns(const Columns& from, int64_t begin, int64_t length, int64_t size, bool first,
                         Columns* to) {
  if (!first && from.all().size() != to->all().size()) {
    return InvalidInput("units of one micro-batch have different columns: %d and %d of them",
                        to->all().size(), from.all().size());
  }
  for (const Columns::Column& column : from.all()) {
    if (!first && to->Find(column.name) == nullptr) {
      return InvalidInput("column %s is present in one unit of a micro-batch and absent from another",
                          column.name);
    }
    if (static_cast<int64_t>(column.values.size()) != length) {
      return InvalidInput("column %s has %d values for %d places", column.name, column.values.size(), length);
    }
    std::vector<float>& target = to->Get(column.name, size);
    std::copy(column.values.begin(), column.values.end(), target.begin() + begin);
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<float>& Columns::Get(const std::string& name, int64_t size, float fill) {
  for (Column& column : columns_) {
    if (column.name == name) return column.values;
  }
  columns_.push_back({name, std::vector<float>(size, fill)});
  return columns_.back().values;
}

const std::vector<float>* Columns::Find(const std::string& name) const {
  for (const Column& column : columns_) {
    if (column.name == name) return &column.values;
  }
  return nullptr;
}

absl::Status PackMicroBatch(const std::vector<Unit>& units, int64_t capacity, MicroBatch* batch) {
  *batch = MicroBatch();
  batch->capacity = capacity;
  batch->ids.assign(capacity, 0);
  batch->positions.assign(capacity, 0);
  batch->targets.assign(capacity, -1);
  batch->cu_seqlens.push_back(0);
  batch->unit_segments.push_back(0);
  int64_t segments = 0;
  for (const Unit& unit : units) segments += unit.segment_lengths.size();
  int64_t segment = 0;
  for (size_t u = 0; u < units.size(); ++u) {
    const Unit& unit = units[u];
    TANREN_RETURN_IF_ERROR(CheckUnit(unit));
    const int64_t begin = batch->used_tokens;
    if (begin + unit.tokens() > capacity) {
      return InvalidInput("units of %d tokens do not fit a micro-batch of %d", begin + unit.tokens(),
                          capacity);
    }
    std::copy(unit.ids.begin(), unit.ids.end(), batch->ids.begin() + begin);
    std::copy(unit.targets.begin(), unit.targets.end(), batch->targets.begin() + begin);
    TANREN_RETURN_IF_ERROR(
        CopyColumns(unit.columns, begin, unit.tokens(), capacity, u == 0, &batch->columns));
    const int64_t unit_segments = static_cast<int64_t>(unit.segment_lengths.size());
    TANREN_RETURN_IF_ERROR(
        CopyColumns(unit.segment_columns, segment, unit_segments, segments, u == 0, &batch->segment_columns));
    int64_t t = 0;
    for (int32_t length : unit.segment_lengths) {
      for (int32_t position = 0; position < length; ++position, ++t) {
        batch->positions[begin + t] = position;
        if (!unit.mask[t]) continue;
        batch->trained.push_back(static_cast<int32_t>(begin + t));
        batch->trained_segment.push_back(static_cast<int32_t>(segment));
      }
      ++segment;
      batch->cu_seqlens.push_back(static_cast<int32_t>(begin + t));
    }
    batch->unit_segments.push_back(static_cast<int32_t>(segment));
    batch->used_tokens += unit.tokens();
  }
  for (int64_t begin = batch->used_tokens; begin < capacity;) {
    const int64_t end = std::min(capacity, begin + kTailSegmentTokens);
    batch->cu_seqlens.push_back(static_cast<int32_t>(end));
    begin = end;
  }
  return absl::OkStatus();
}

}  // namespace tanren
