// The choice among the attention kernels: the most specialised family that takes the operands on this device.
#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "kernels/backend.h"
#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/stream.h"

namespace tanren::kernels::cuda {
namespace {

// From the plainest to the most specialised.
enum class Family : uint8_t { kScalar, kMma, kHopper };

constexpr int kHopperMajor = 9;
constexpr int64_t kLargestHead = 256;

// TANREN_ATTENTION=scalar|mma|hopper: no family beyond it is chosen.
Family ReadMostSpecialised() {
  const char* value = std::getenv("TANREN_ATTENTION");
  if (value == nullptr || std::strcmp(value, "hopper") == 0) return Family::kHopper;
  if (std::strcmp(value, "mma") == 0) return Family::kMma;
  TANREN_CUDA_REQUIRE(std::strcmp(value, "scalar") == 0 && "TANREN_ATTENTION is scalar, mma or hopper");
  return Family::kScalar;
}

bool MayUse(Family family) {
  static const Family most_specialised = ReadMostSpecialised();
  if (family == Family::kHopper && CurrentArchitecture().major != kHopperMajor) return false;
  return family <= most_specialised;
}

Family ForwardFamily(const AttentionShape& shape, const AttentionOperands& operands) {
  if (MayUse(Family::kHopper) && HopperAttentionForwardSupports(shape, operands)) return Family::kHopper;
  if (MayUse(Family::kMma) && MmaAttentionSupports(shape, operands, false)) return Family::kMma;
  return Family::kScalar;
}

Family BackwardFamily(const AttentionShape& shape, const AttentionOperands& operands) {
  if (MayUse(Family::kHopper) && HopperAttentionBackwardSupports(shape, operands)) return Family::kHopper;
  if (MayUse(Family::kMma) && MmaAttentionSupports(shape, operands, true)) return Family::kMma;
  return Family::kScalar;
}

void CheckOperands(const AttentionShape& shape, const ConstHeads& q,
                   std::initializer_list<DType> same_dtypes) {
  TANREN_CUDA_REQUIRE(q.data.dtype == DType::kF32 || q.data.dtype == DType::kBF16);
  for (const DType dtype : same_dtypes) TANREN_CUDA_REQUIRE(dtype == q.data.dtype);
  TANREN_CUDA_REQUIRE(shape.kv_heads > 0 && shape.heads % shape.kv_heads == 0);
  TANREN_CUDA_REQUIRE(shape.head_dim >= 1 && shape.head_dim <= kLargestHead);
}

}  // namespace

void AttentionForward(const Stream& stream, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                      ConstHeads v, Heads o, float* lse) {
  if (shape.tokens == 0) return;
  CheckOperands(shape, q, {k.data.dtype, v.data.dtype, o.data.dtype});
  AttentionOperands operands;
  operands.q = q;
  operands.k = k;
  operands.v = v;
  operands.o = o;
  operands.lse = lse;
  switch (ForwardFamily(shape, operands)) {
    case Family::kHopper:
      return HopperAttentionForward(stream, shape, operands);
    case Family::kMma:
      return MmaAttentionForward(stream, shape, operands);
    case Family::kScalar:
      return ScalarAttentionForward(stream, shape, operands);
  }
}

// Which family takes a pass depends on its operands, which are not known here: room for any.
int64_t AttentionBackwardWorkspaceBytes(const Stream&, const AttentionShape& shape) {
  int64_t bytes = ScalarAttentionBackwardBytes(shape);
  if (MayUse(Family::kMma)) bytes = std::max(bytes, MmaAttentionBackwardBytes(shape));
  if (MayUse(Family::kHopper)) bytes = std::max(bytes, HopperAttentionBackwardBytes(shape));
  return bytes;
}

void AttentionBackward(const Stream& stream, const AttentionShape& shape, ConstHeads q, ConstHeads k,
                       ConstHeads v, ConstHeads o, const float* lse, ConstHeads d_o, Heads dq, Heads dk,
                       Heads dv, void* workspace) {
  if (shape.tokens == 0) return;
  CheckOperands(shape, q,
                {k.data.dtype, v.data.dtype, o.data.dtype, d_o.data.dtype, dq.data.dtype, dk.data.dtype,
                 dv.data.dtype});
  AttentionOperands operands;
  operands.q = q;
  operands.k = k;
  operands.v = v;
  // The operands of both passes share one struct; a backward pass only reads these two.
  operands.o = {Buffer(const_cast<void*>(o.data.data), o.data.dtype), o.stride};
  operands.lse = const_cast<float*>(lse);
  operands.d_o = d_o;
  operands.dq = dq;
  operands.dk = dk;
  operands.dv = dv;
  switch (BackwardFamily(shape, operands)) {
    case Family::kHopper:
      return HopperAttentionBackward(stream, shape, operands, workspace);
    case Family::kMma:
      return MmaAttentionBackward(stream, shape, operands, workspace);
    case Family::kScalar:
      return ScalarAttentionBackward(stream, shape, operands, workspace);
  }
}

}  // namespace tanren::kernels::cuda
