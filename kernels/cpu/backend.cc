#include "kernels/backend.h"

namespace tanren::kernels {

const Backend& CpuBackend() {
  static const Backend backend = {
#define TANREN_ENTRY(name) &cpu::name,
      TANREN_FOR_EACH_KERNEL(TANREN_ENTRY)
#undef TANREN_ENTRY
          & cpu::MakeLinear,
  };
  return backend;
}

}  // namespace tanren::kernels
