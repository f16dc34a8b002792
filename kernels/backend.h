// The table of kernels that each backend fills, and the choice between backends by a stream's device.
//
// The public headers (kernels/norm.h, ...) declare each kernel once; kernels/dispatch.cc sends a call to the
// backend of its stream. A backend is a folder of source files that define `cpu::Name` or `cuda::Name` with
// the public signature; one that was not compiled is absent, never a set of stubs.
#ifndef TANREN_KERNELS_BACKEND_H_
#define TANREN_KERNELS_BACKEND_H_

#include <memory>

#include "kernels/activation.h"
#include "kernels/attention.h"
#include "kernels/embedding.h"
#include "kernels/fixed_sum.h"
#include "kernels/head.h"
#include "kernels/matmul.h"
#include "kernels/norm.h"
#include "kernels/optimizer.h"
#include "kernels/random.h"
#include "kernels/reduce.h"
#include "kernels/rotary.h"
#include "kernels/sampling.h"
#include "kernels/types.h"

// Every kernel whose first parameter is the stream.
#define TANREN_FOR_EACH_KERNEL(X)    \
  X(ActivationForward)               \
  X(ActivationBackward)              \
  X(SoftCap)                         \
  X(AttentionForward)                \
  X(AttentionBackwardWorkspaceBytes) \
  X(AttentionBackward)               \
  X(CacheAppend)                     \
  X(RotaryAppend)                    \
  X(CachedAttention)                 \
  X(EmbeddingForward)                \
  X(EmbeddingBackward)               \
  X(GatherRows)                      \
  X(ScatterAddRows)                  \
  X(LogitRowMax)                     \
  X(LogitRowSums)                    \
  X(LogitRowMaxAndSums)              \
  X(TokenStatistics)                 \
  X(LogitGradient)                   \
  X(ScalarHeadForward)               \
  X(ScalarHeadBackward)              \
  X(NormForward)                     \
  X(NormBackward)                    \
  X(HeadNormForward)                 \
  X(HeadNormBackward)                \
  X(AdamW)                           \
  X(FillNormal)                      \
  X(SumOfSquares)                    \
  X(Digest)                          \
  X(AddFixed)                        \
  X(FixedToFloat)                    \
  X(Cast)                            \
  X(AddScaled)                       \
  X(ColumnSum)                       \
  X(Fill)                            \
  X(Rotary)                          \
  X(SampleTokens)                    \
  X(PenalizeLogits)                  \
  X(RestoreLogits)                   \
  X(ScoreSamples)

namespace tanren::kernels {

#define TANREN_DECLARE_KERNEL(name) extern decltype(kernels::name) name;
namespace cpu {
TANREN_FOR_EACH_KERNEL(TANREN_DECLARE_KERNEL)
std::unique_ptr<LinearImpl> MakeLinear(int64_t out_features, int64_t in_features, DType dtype);
}  // namespace cpu
namespace cuda {
TANREN_FOR_EACH_KERNEL(TANREN_DECLARE_KERNEL)
std::unique_ptr<LinearImpl> MakeLinear(int64_t out_features, int64_t in_features, DType dtype);
}  // namespace cuda
#undef TANREN_DECLARE_KERNEL

struct Backend {
#define TANREN_DECLARE_ENTRY(name) decltype(&kernels::name) name;
  TANREN_FOR_EACH_KERNEL(TANREN_DECLARE_ENTRY)
#undef TANREN_DECLARE_ENTRY
  decltype(&cpu::MakeLinear) MakeLinear;
};

const Backend& CpuBackend();
// Null when the build has no CUDA backend.
const Backend* CudaBackend();

}  // namespace tanren::kernels

#endif  // TANREN_KERNELS_BACKEND_H_
