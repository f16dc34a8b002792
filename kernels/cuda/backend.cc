#include "kernels/backend.h"

namespace tanren::kernels {

const Backend* CudaBackend() {
  static const Backend backend = {
#define TANREN_ENTRY(name) &cuda::name,
      TANREN_FOR_EACH_KERNEL(TANREN_ENTRY)
#undef TANREN_ENTRY
          & cuda::MakeLinear,
  };
  return &backend;
}

}  // namespace tanren::kernels
