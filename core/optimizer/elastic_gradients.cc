#include "core/optimizer/elastic_gradients.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status.h"
#include "kernels/fixed_sum.h"
#include "kernels/reduce.h"

namespace tanren {
namespace {

// The smallest e with value < 2^e; value > 0.
int ExponentOf(float value) {
  int exponent = 0;
  std::frexp(value, &exponent);
  return exponent;
}

}  // namespace

ElasticGradients::ElasticGradients(const ParameterSet& parameters, const Mesh& mesh)
    : parameters_(parameters), mesh_(mesh), ranges_(parameters.all().size(), kNoRange), next_(ranges_) {}

void ElasticGradients::Layout(Arena& arena) {
  const auto count = static_cast<int64_t>(ranges_.size());
  sums_ = arena.Take<int64_t>("sums of gradients in fixed point", parameters_.flat_count());
  largest_.Layout(arena, "largest gradients", count);
  squares_.Layout(arena, "gradient norm", 2 * (count + 1));
}

double ElasticGradients::Unit(int64_t parameter) const {
  // Without a range any unit will do: the sums are dropped, unless all terms are zero.
  return ranges_[parameter] == kNoRange ? 1 : std::ldexp(1.0, ranges_[parameter] - kRangeBits);
}

double ElasticGradients::Bound(int64_t parameter) const {
  return next_[parameter] == kNoRange ? 1 : std::ldexp(1.0, next_[parameter] + sum_bits_);
}

void ElasticGradients::AddMicroBatch() {
  const std::vector<Parameter>& all = parameters_.all();
  for (size_t p = 0; p < all.size(); ++p) {
    kernels::AddFixed(mesh_.stream, all[p].count, Unit(static_cast<int64_t>(p)), gradients_ + all[p].offset,
                      sums_ + all[p].offset, largest_.device() + p);
  }
}

bool ElasticGradients::RangesHold(int64_t micro_batches) {
  const int64_t terms = std::max<int64_t>(micro_batches * mesh_.tensor->size(), 1);
  TANREN_CHECK(terms <= kMostTerms);
  sum_bits_ = static_cast<int>(std::bit_width(static_cast<uint64_t>(terms - 1)));
  // A sum must stay below 2^62 units.
  const int room = std::min(kTermBits, 62 - sum_bits_) - kRangeBits;
  const int64_t count = largest_.count();
  largest_.ToHost(mesh_.stream, count);
  std::vector<int32_t> largest(largest_.host(), largest_.host() + count);
  kernels::Fill(mesh_.stream, count * int64_t{sizeof(int32_t)}, 0, largest_.device());
  mesh_.world->AllReduce(Stream(), "largest gradients", Buffer(largest.data()), count, ReduceOp::kMax);
  bool hold = true;
  finite_ = true;
  next_ = ranges_;
  for (int64_t p = 0; p < count; ++p) {
    const auto value = std::bit_cast<float>(largest[p]);
    if (!std::isfinite(value)) {
      finite_ = false;
    } else if (value > 0) {
      next_[p] = ExponentOf(value);
      if (ranges_[p] == kNoRange || next_[p] > ranges_[p] + room || next_[p] < ranges_[p] - kMostLoss) {
        hold = false;
      }
      // The sum is to be a float too.
      if (next_[p] + sum_bits_ > std::numeric_limits<float>::max_exponent) finite_ = false;
    }
  }
  if (!finite_) {
    next_ = ranges_;
    return true;
  }
  if (!hold) Clear();
  return hold;
}

void ElasticGradients::ToGradients(const Parameter& parameter, int64_t begin, int64_t count, bool counts) {
  const int64_t p = Index(parameter);
  // What does not count goes behind the sums of all parameters.
  int64_t* squares = squares_.device() + 2 * (counts ? p : static_cast<int64_t>(ranges_.size()));
  kernels::FixedToFloat(mesh_.stream, count, sums_ + begin, Unit(p), Bound(p), gradients_ + begin, squares);
}

double ElasticGradients::Norm() {
  const int64_t count = 2 * static_cast<int64_t>(ranges_.size());
  squares_.ToHost(mesh_.stream, count);
  std::vector<int64_t> squares(squares_.host(), squares_.host() + count);
  kernels::Fill(mesh_.stream, squares_.count() * int64_t{sizeof(int64_t)}, 0, squares_.device());
  mesh_.world->AllReduce(Stream(), "gradient norm", Buffer(squares.data()), count, ReduceOp::kSum);
  double total = 0;
  for (int64_t p = 0; 2 * p < count; ++p) {
    total += kernels::SumOfWords(&squares[2 * p]) * Bound(p) * Bound(p);
  }
  return std::sqrt(total);
}

void ElasticGradients::Clear() {
  ranges_ = next_;
  kernels::Fill(mesh_.stream, parameters_.flat_count() * int64_t{sizeof(int64_t)}, 0, sums_);
}

std::string ElasticGradients::SaveRanges() const {
  std::string text;
  for (size_t p = 0; p < ranges_.size(); ++p) {
    if (ranges_[p] != kNoRange) absl::StrAppend(&text, parameters_.all()[p].name, " ", ranges_[p], "\n");
  }
  return text;
}

absl::Status ElasticGradients::RestoreRanges(std::string_view text) {
  std::fill(ranges_.begin(), ranges_.end(), kNoRange);
  for (absl::string_view line : absl::StrSplit(View(text), '\n', absl::SkipEmpty())) {
    const std::vector<absl::string_view> parts = absl::StrSplit(line, ' ');
    const Parameter* parameter =
        parts.size() == 2 ? parameters_.Find(std::string_view(parts[0].data(), parts[0].size())) : nullptr;
    int exponent = 0;
    if (parameter == nullptr || !absl::SimpleAtoi(parts[1], &exponent) || exponent < -200 || exponent > 200) {
      return InvalidInput("ranges of gradients: \"%s\" names no parameter of the model and its exponent",
                          std::string(line));
    }
    ranges_[Index(*parameter)] = exponent;
  }
  next_ = ranges_;
  return absl::OkStatus();
}

}  // namespace tanren
