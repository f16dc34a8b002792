#include "core/checkpoint/region.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"

namespace tanren {
namespace {

// Elements that one step of `dim` passes over in row-major order of `size`.
int64_t Stride(const std::vector<int64_t>& size, int dim) {
  int64_t stride = 1;
  for (int d = dim + 1; d < static_cast<int>(size.size()); ++d) stride *= size[d];
  return stride;
}

bool Intersect(const Box& a, const Box& b, Box* shared) {
  const int rank = static_cast<int>(a.size.size());
  shared->offset.resize(rank);
  shared->size.resize(rank);
  for (int d = 0; d < rank; ++d) {
    const int64_t begin = std::max(a.offset[d], b.offset[d]);
    const int64_t end = std::min(a.offset[d] + a.size[d], b.offset[d] + b.size[d]);
    if (begin >= end) return false;
    shared->offset[d] = begin;
    shared->size[d] = end - begin;
  }
  return true;
}

// A range inside the box whose dims before `dim` are fixed to one index each: a partial head row, whole rows,
// a partial tail row.
void AppendRange(const Box& box, int dim, int64_t begin, int64_t end, std::vector<Box>* boxes) {
  if (begin >= end) return;
  if (dim == static_cast<int>(box.size.size())) {
    boxes->push_back(box);
    return;
  }
  const int64_t stride = Stride(box.size, dim);
  const auto rows = [&](int64_t first, int64_t count) {
    Box part = box;
    part.offset[dim] += first;
    part.size[dim] = count;
    return part;
  };
  int64_t first = begin / stride;
  const int64_t last = end / stride;
  if (begin % stride != 0) {
    const int64_t head_end = std::min(end, (first + 1) * stride);
    AppendRange(rows(first, 1), dim + 1, begin - first * stride, head_end - first * stride, boxes);
    ++first;
  }
  if (first < last) boxes->push_back(rows(first, last - first));
  if (first <= last && end % stride != 0) AppendRange(rows(last, 1), dim + 1, 0, end - last * stride, boxes);
}

struct OwnedBox {
  Box box;
  int region;
};

// Exact cover by recursion on dims: between two neighbouring box boundaries of a dim the set of active boxes
// does not change, so its cross-section must cover the remaining dims exactly.
class CoverageProof {
 public:
  CoverageProof(absl::Span<const int64_t> shape, const std::vector<OwnedBox>& boxes,
                const std::function<std::string(int)>& label)
      : shape_(shape), boxes_(boxes), label_(label), at_(shape.size(), 0) {}

  absl::Status Cover(std::vector<int> candidates, int dim) {
    if (dim == static_cast<int>(shape_.size())) {
      if (candidates.size() == 1) return absl::OkStatus();
      return candidates.empty() ? Gap(dim) : Twice(candidates);
    }
    std::sort(candidates.begin(), candidates.end(),
              [&](int a, int b) { return boxes_[a].box.offset[dim] < boxes_[b].box.offset[dim]; });
    std::vector<int> active;
    size_t next = 0;
    for (int64_t position = 0; position < shape_[dim];) {
      std::erase_if(active, [&](int b) { return End(b, dim) <= position; });
      while (next < candidates.size() && boxes_[candidates[next]].box.offset[dim] == position) {
        active.push_back(candidates[next++]);
      }
      at_[dim] = position;
      if (active.empty()) return Gap(dim + 1);
      int64_t boundary = next < candidates.size() ? boxes_[candidates[next]].box.offset[dim] : shape_[dim];
      for (int b : active) boundary = std::min(boundary, End(b, dim));
      work_ += static_cast<int64_t>(active.size());
      if (work_ > kMaxWork) {
        return InvalidInput("cut into %d boxes, too fragmented to check", boxes_.size());
      }
      TANREN_RETURN_IF_ERROR(Cover(active, dim + 1));
      position = boundary;
    }
    return absl::OkStatus();
  }

 private:
  static constexpr int64_t kMaxWork = int64_t{1} << 24;  // 8 x 1024 pieces of one tensor take 2^17

  int64_t End(int b, int dim) const { return boxes_[b].box.offset[dim] + boxes_[b].box.size[dim]; }

  absl::Status Gap(int known_dims) {
    std::fill(at_.begin() + known_dims, at_.end(), 0);
    return InvalidInput("gap: element [%s] is in no chunk", absl::StrJoin(at_, ", "));
  }
  absl::Status Twice(const std::vector<int>& candidates) {
    return InvalidInput("overlap: element [%s] is in %s and in %s", absl::StrJoin(at_, ", "),
                        label_(boxes_[candidates[0]].region), label_(boxes_[candidates[1]].region));
  }

  absl::Span<const int64_t> shape_;
  const std::vector<OwnedBox>& boxes_;
  const std::function<std::string(int)>& label_;
  std::vector<int64_t> at_;
  int64_t work_ = 0;
};

}  // namespace

Box Box::Whole(absl::Span<const int64_t> shape) {
  return Box{std::vector<int64_t>(shape.size(), 0), std::vector<int64_t>(shape.begin(), shape.end())};
}

int64_t Box::elements() const {
  int64_t count = 1;
  for (int64_t s : size) count *= s;
  return count;
}

Region Region::OfBox(Box box) {
  Region region;
  region.end = box.elements();
  region.box = std::move(box);
  return region;
}

Region Region::Whole(absl::Span<const int64_t> shape) { return OfBox(Box::Whole(shape)); }

std::string ShapeToString(absl::Span<const int64_t> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

std::string ToString(const Region& region) {
  std::string text = "[";
  for (size_t d = 0; d < region.box.size.size(); ++d) {
    absl::StrAppend(&text, d ? ", " : "", region.box.offset[d], ":",
                    region.box.offset[d] + region.box.size[d]);
  }
  text += "]";
  if (!region.is_whole_box()) absl::StrAppend(&text, " elements ", region.begin, ":", region.end);
  return text;
}

absl::StatusOr<int64_t> CountElements(absl::Span<const int64_t> shape) {
  if (shape.size() > kMaxTensorRank) {
    return InvalidInput("shape has %d dims, at most %d are allowed", shape.size(), kMaxTensorRank);
  }
  constexpr int64_t kMax = int64_t{1} << 60;
  int64_t count = 1;
  bool empty = false;
  for (int64_t s : shape) {
    if (s < 0) return InvalidInput("shape %s has a negative dim", ShapeToString(shape));
    if (s == 0) {
      empty = true;
      continue;
    }
    if (count >= kMax / s)
      return InvalidInput("shape %s overflows: 2^60 elements or more", ShapeToString(shape));
    count *= s;
  }
  return empty ? 0 : count;
}

absl::Status CheckRegion(absl::Span<const int64_t> shape, const Region& region) {
  const size_t rank = shape.size();
  if (region.box.offset.size() != rank || region.box.size.size() != rank) {
    return InvalidInput("box has %d offsets and %d sizes for shape %s", region.box.offset.size(),
                        region.box.size.size(), ShapeToString(shape));
  }
  for (size_t d = 0; d < rank; ++d) {
    const int64_t offset = region.box.offset[d], size = region.box.size[d];
    if (offset < 0 || size < 0 || offset > shape[d] || size > shape[d] - offset) {
      return InvalidInput("box offset %d, size %d in dim %d lies outside shape %s", offset, size, d,
                          ShapeToString(shape));
    }
  }
  const int64_t elements = region.box.elements();
  if (region.begin < 0 || region.end < region.begin || region.end > elements) {
    return InvalidInput("range %d:%d lies outside its box of %d elements", region.begin, region.end,
                        elements);
  }
  return absl::OkStatus();
}

void AppendBoxes(const Region& region, std::vector<Box>* boxes) {
  if (region.begin >= region.end) return;
  if (region.is_whole_box()) {
    boxes->push_back(region.box);
  } else {
    AppendRange(region.box, 0, region.begin, region.end, boxes);
  }
}

absl::Status ProveCoverage(absl::Span<const int64_t> shape, absl::Span<const Region> regions,
                           const std::function<std::string(int)>& label) {
  TANREN_ASSIGN_OR_RETURN(const int64_t elements, CountElements(shape));
  if (elements == 0) return absl::OkStatus();
  std::vector<OwnedBox> owned;
  std::vector<Box> boxes;
  for (int r = 0; r < static_cast<int>(regions.size()); ++r) {
    boxes.clear();
    AppendBoxes(regions[r], &boxes);
    for (Box& box : boxes) owned.push_back({std::move(box), r});
  }
  std::vector<int> all(owned.size());
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int>(i);
  return CoverageProof(shape, owned, label).Cover(std::move(all), 0);
}

SharedRuns::SharedRuns(const Region& source, const Region& target) {
  std::vector<Box> sources, targets;
  AppendBoxes(source, &sources);
  AppendBoxes(target, &targets);
  Box shared;
  for (const Box& s : sources) {
    for (const Box& t : targets) {
      if (Intersect(s, t, &shared)) cursors_.push_back(Cursor(shared, source, target));
    }
  }
}

SharedRuns::Cursor::Cursor(const Box& shared, const Region& source, const Region& target) {
  const int rank = static_cast<int>(shared.size.size());
  source_base_ = -source.begin;
  target_base_ = -target.begin;
  bool contiguous = true;  // every dim inside `d` is spanned whole in both boxes
  for (int d = rank - 1; d >= 0; --d) {
    const int64_t source_stride = Stride(source.box.size, d), target_stride = Stride(target.box.size, d);
    source_base_ += (shared.offset[d] - source.box.offset[d]) * source_stride;
    target_base_ += (shared.offset[d] - target.box.offset[d]) * target_stride;
    if (contiguous) {
      run_elements_ *= shared.size[d];
    } else {
      outer_.push_back({shared.size[d], source_stride, target_stride, 0});
    }
    contiguous = contiguous && shared.size[d] == source.box.size[d] && shared.size[d] == target.box.size[d];
  }
  std::reverse(outer_.begin(), outer_.end());
  Locate();
}

void SharedRuns::Cursor::Locate() {
  run_ = {source_base_, target_base_, run_elements_};
  for (const Dim& dim : outer_) {
    run_.source += dim.index * dim.source_stride;
    run_.target += dim.index * dim.target_stride;
  }
}

void SharedRuns::Cursor::Consume(int64_t count) {
  run_.source += count;
  run_.target += count;
  run_.count -= count;
  if (run_.count > 0) return;
  for (int d = static_cast<int>(outer_.size()) - 1; d >= 0; --d) {
    if (++outer_[d].index < outer_[d].size) {
      Locate();
      return;
    }
    outer_[d].index = 0;
  }
  done_ = true;
}

}  // namespace tanren
