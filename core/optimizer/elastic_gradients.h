// Gradients whose sum over the step's micro-batches is the same, bit for bit, at any number of data ranks.
//
// Micro-batches are the same at every layout (core/data/batch.h), and so is the gradient of each; what
// differs is which ranks add which of them, in which order, and floating-point sums depend on that. Here the
// gradient of a micro-batch is rounded to a multiple of a power of two and added as an integer, which is
// exact, on the rank and in the collectives.
//
// The unit. Each parameter has a range 2^e, the smallest power of two above the largest magnitude in the
// gradient of any micro-batch of the step before; its unit is 2^(e - 38). The largest may be up to 2^12 times
// as large as that of the step before, or as small. Where it is beyond that, or where a parameter has no
// range yet, the step's sums are dropped, the ranges become those of this step, and the same micro-batches
// are computed once more: the only rule, and one that depends on the largest magnitudes alone, which are the
// same at every layout. So a term is rounded by at most 2^-26 of the largest of its step, and by 2^-39 of it
// where steps are alike. Ranges are saved with the checkpoint.
#ifndef TANREN_CORE_OPTIMIZER_ELASTIC_GRADIENTS_H_
#define TANREN_CORE_OPTIMIZER_ELASTIC_GRADIENTS_H_

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "core/comm/mesh.h"
#include "core/model/parameters.h"
#include "core/tensor/arena.h"
#include "core/tensor/staged.h"

namespace tanren {

class ElasticGradients {
 public:
  static constexpr int kRangeBits = 38;  // units of the largest term of the step before, at most
  static constexpr int kTermBits = 50;   // and of any term that is accepted
  static constexpr int kMostLoss = 12;   // bits fewer than kRangeBits that the largest term may have
  // Micro-batches of a step times tensor ranks, at most: their sum is to fit.
  static constexpr int64_t kMostTerms = int64_t{1} << 24;

  // `parameters` must outlive this.
  ElasticGradients(const ParameterSet& parameters, const Mesh& mesh);

  void Layout(Arena& arena);
  // The gradients that a backward pass adds to: [flat count], zero before each micro-batch.
  void Bind(float* gradients) { gradients_ = gradients; }

  // After a micro-batch's backward pass: adds its gradient, and sets it to zero.
  void AddMicroBatch();

  // Collective over the world, after the last of the step's `micro_batches`, counted over all data ranks (at
  // most kMostTerms over the tensor size). False: the sums were dropped and the caller computes the same
  // micro-batches once more; the second time it is true.
  bool RangesHold(int64_t micro_batches);
  // After RangesHold() was true: whether every term was finite.
  bool finite() const { return finite_; }

  // The sums: [flat count] of kI64.
  Buffer sums() const { return Buffer(sums_); }

  // Elements [begin, begin + count) of the flat order, which lie in this parameter, from the sums to the
  // gradients. Their squares count in Norm() where `counts`.
  void ToGradients(const Parameter& parameter, int64_t begin, int64_t count, bool counts);
  // Collective over the world: the norm of what was counted since the last call.
  double Norm();

  // Zero again, for the next step, whose ranges are those of this one.
  void Clear();

  // "NAME EXPONENT" a line, of the parameters that have a range. The same on all ranks.
  std::string SaveRanges() const;
  // Error: a line that is none of these. Parameters that are not named have no range.
  absl::Status RestoreRanges(std::string_view text);

 private:
  static constexpr int kNoRange = std::numeric_limits<int>::min();

  int64_t Index(const Parameter& parameter) const { return &parameter - parameters_.all().data(); }
  double Unit(int64_t parameter) const;
  double Bound(int64_t parameter) const;

  const ParameterSet& parameters_;
  Mesh mesh_;
  std::vector<int> ranges_;  // by parameter: e
  std::vector<int> next_;    // those of the step under way
  int sum_bits_ = 0;         // a sum is below 2^sum_bits_ times the range of the step under way
  bool finite_ = true;

  float* gradients_ = nullptr;
  int64_t* sums_ = nullptr;
  Staged<int32_t> largest_;  // by parameter, as AddFixed() says it
  Staged<int64_t> squares_;  // two by parameter, and of what does not count in the norm
};

}  // namespace tanren

#endif  // TANREN_CORE_OPTIMIZER_ELASTIC_GRADIENTS_H_
