#include "tests/emulation/context.h"

#if defined(__x86_64__)
// The registers that a call keeps go to the running stack, its place to *save; then the same backwards from
// `load`.
asm(R"(
.text
.globl tanren_emulation_switch
.hidden tanren_emulation_switch
.type tanren_emulation_switch, @function
tanren_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size tanren_emulation_switch, .-tanren_emulation_switch
)");
#endif
