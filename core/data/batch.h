// What a step learns from: units, packed into micro-batches of fixed capacity, never padded per sequence.
//
// Terms. A *segment* is one sequence: attention never leaves it and positions restart in it. A *unit* is the
// indivisible thing a loss speaks about: a document slice, a chosen/rejected pair, a ranked group; it has one
// or more segments. A *micro-batch* is one row of `capacity` tokens filled by whole units; untrained tail
// segments take the rest and no statistic sees them. A *step* is a list of micro-batches in global order, cut
// before it is dealt to data ranks, so the same micro-batches exist at every layout.
#ifndef TANREN_CORE_DATA_BATCH_H_
#define TANREN_CORE_DATA_BATCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace tanren {

// Named float columns, parallel to tokens or to segments. Few names, looked up once a step.
class Columns {
 public:
  struct Column {
    std::string name;
    std::vector<float> values;
  };
  // The column's values, made with `size` copies of `fill` when absent.
  std::vector<float>& Get(const std::string& name, int64_t size, float fill = 0);
  const std::vector<float>* Find(const std::string& name) const;
  const std::vector<Column>& all() const { return columns_; }

 private:
  std::vector<Column> columns_;
};

// Tokens of all segments, one after the other. Input position t predicts targets[t]; a position is trained
// when mask[t] != 0, which needs a target.
struct Unit {
  std::vector<int32_t> ids;
  std::vector<int32_t> targets;          // parallel to ids; -1: no target
  std::vector<uint8_t> mask;             // parallel to ids; 1: trained
  std::vector<int32_t> segment_lengths;  // sum = ids.size(), each > 0
  Columns columns;                       // parallel to ids
  Columns segment_columns;               // parallel to segment_lengths

  int64_t tokens() const { return static_cast<int64_t>(ids.size()); }
};

struct MicroBatch {
  int64_t capacity = 0;
  int64_t used_tokens = 0;               // tokens of units; the tail fills [used_tokens, capacity)
  std::vector<int32_t> ids;              // [capacity], tail 0
  std::vector<int32_t> positions;        // [capacity], from 0 in each segment; tail 0
  std::vector<int32_t> targets;          // [capacity], tail -1
  std::vector<int32_t> cu_seqlens;       // [segments + tail segments + 1]
  std::vector<int32_t> trained;          // trained positions, ascending
  std::vector<int32_t> trained_segment;  // segment of each trained position
  std::vector<int32_t>
      unit_segments;        // [units + 1]: unit u has segments [unit_segments[u], unit_segments[u+1])
  Columns columns;          // [capacity], tail 0
  Columns segment_columns;  // [segments]

  int64_t segments() const { return unit_segments.empty() ? 0 : unit_segments.back(); }
  int64_t units() const { return static_cast<int64_t>(unit_segments.size()) - 1; }
  int64_t all_segments() const { return static_cast<int64_t>(cu_seqlens.size()) - 1; }  // with the tail
  int64_t LastToken(int64_t segment) const { return cu_seqlens[segment + 1] - 1; }
};

// Packs units in order. Units must fit: sum of tokens <= capacity. Columns absent from one unit and present
// in another are an error (a loss would read made-up values).
absl::Status PackMicroBatch(const std::vector<Unit>& units, int64_t capacity, MicroBatch* batch);

}  // namespace tanren

#endif  // TANREN_CORE_DATA_BATCH_H_
