// Broken invariants of kernels: a caller's mistake, never a user's, so they abort with the expression.
#ifndef TANREN_KERNELS_CPU_CHECK_H_
#define TANREN_KERNELS_CPU_CHECK_H_

#include <cstdio>
#include <cstdlib>

namespace tanren::kernels::cpu {

[[noreturn]] inline void InvariantFailed(const char* file, int line, const char* expression) {
  std::fprintf(stderr, "%s:%d: broken invariant: %s\n", file, line, expression);
  std::fflush(stderr);
  std::abort();
}

}  // namespace tanren::kernels::cpu

#define TANREN_KERNEL_CHECK(expression) \
  ((expression) ? void(0) : ::tanren::kernels::cpu::InvariantFailed(__FILE__, __LINE__, #expression))

#endif  // TANREN_KERNELS_CPU_CHECK_H_
