// Which elements of a global tensor a piece holds: a box in global coordinates and, for pieces of a sharded
// optimizer, a row-major range inside that box. Never rank numbers, bucket offsets or padding.
#ifndef TANREN_CORE_CHECKPOINT_REGION_H_
#define TANREN_CORE_CHECKPOINT_REGION_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace tanren {

inline constexpr int kMaxTensorRank = 16;

// Elements offset[d] <= x[d] < offset[d] + size[d] in every dim d.
struct Box {
  std::vector<int64_t> offset;
  std::vector<int64_t> size;

  static Box Whole(absl::Span<const int64_t> shape);
  int64_t elements() const;
  bool operator==(const Box&) const = default;
};

// Elements [begin, end) of the box, counted row-major inside it. Piece memory and chunk data hold exactly
// these elements, contiguously, in that order.
struct Region {
  Box box;
  int64_t begin = 0;
  int64_t end = 0;

  static Region Whole(absl::Span<const int64_t> shape);
  static Region OfBox(Box box);
  int64_t elements() const { return end - begin; }
  bool is_whole_box() const { return begin == 0 && end == box.elements(); }
  bool operator==(const Region&) const = default;
};

// "[0:4, 8:16]" or "[0:4, 8:16] elements 3:9".
std::string ToString(const Region& region);
std::string ShapeToString(absl::Span<const int64_t> shape);

// The number of elements; refuses negative dims, more than kMaxTensorRank dims, and 2^60 elements or more
// (so that bytes and sums of them stay in int64).
absl::StatusOr<int64_t> CountElements(absl::Span<const int64_t> shape);

// The region lies in the shape, and its range in its box.
absl::Status CheckRegion(absl::Span<const int64_t> shape, const Region& region);

// The region as at most 2 * rank - 1 disjoint whole boxes, in row-major order of their elements.
void AppendBoxes(const Region& region, std::vector<Box>* boxes);

// OK exactly when every element of the shape lies in exactly one region. Otherwise the error names the first
// element found in none or in two, and the two regions through `label`. Memory is proportional to the number
// of regions. Regions must have passed CheckRegion and must not be empty. Work is bounded: a cutting too
// fragmented to prove (far beyond any mesh; only a forged manifest has one) is refused.
absl::Status ProveCoverage(absl::Span<const int64_t> shape, absl::Span<const Region> regions,
                           const std::function<std::string(int)>& label);

// The elements that two regions of one tensor share, as runs contiguous in both, in row-major order of each.
class SharedRuns {
 public:
  struct Run {
    int64_t source = 0;  // element index inside the source region's contiguous data
    int64_t target = 0;  // element index inside the target region's contiguous data
    int64_t count = 0;
  };

  SharedRuns(const Region& source, const Region& target);

  // One cursor per pair of overlapping boxes. Each yields its runs in ascending source order.
  class Cursor {
   public:
    bool done() const { return done_; }
    const Run& run() const { return run_; }
    // Drops the first `count` elements of the current run, and steps to the next run when none is left.
    void Consume(int64_t count);

   private:
    friend class SharedRuns;
    Cursor(const Box& shared, const Region& source, const Region& target);
    void Locate();

    struct Dim {
      int64_t size, source_stride, target_stride, index;
    };
    std::vector<Dim> outer_;  // the dims that a run does not span, outermost first
    int64_t source_base_ = 0, target_base_ = 0, run_elements_ = 1;
    Run run_;
    bool done_ = false;
  };

  std::vector<Cursor>& cursors() { return cursors_; }

 private:
  std::vector<Cursor> cursors_;
};

}  // namespace tanren

#endif  // TANREN_CORE_CHECKPOINT_REGION_H_
