// Stacks that take turns on one thread of the operating system.
//
// A context is prepared with a stack of its own and a function that never returns; SwitchTo leaves the
// running one where it stands and goes on with another, until somebody switches back.
#ifndef TANREN_TESTS_EMULATION_CONTEXT_H_
#define TANREN_TESTS_EMULATION_CONTEXT_H_

#include <cstddef>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace tanren::emulation {

#if defined(__x86_64__)
extern "C" void tanren_emulation_switch(void** save, void* load);

class Context {
 public:
  void Prepare(void* stack, size_t bytes, void (*entry)()) {
    // As the switch leaves a stack: six registers, then where to go on; at entry the stack is 8 beyond 16.
    auto* top = reinterpret_cast<void**>(static_cast<char*>(stack) + bytes);
    *--top = nullptr;
    *--top = reinterpret_cast<void*>(entry);
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    at_ = top;
  }
  void SwitchTo(Context& to) { tanren_emulation_switch(&at_, to.at_); }

 private:
  void* at_ = nullptr;
};
#else
class Context {
 public:
  void Prepare(void* stack, size_t bytes, void (*entry)()) {
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = bytes;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
  }
  void SwitchTo(Context& to) { swapcontext(&context_, &to.context_); }

 private:
  ucontext_t context_;
};
#endif

}  // namespace tanren::emulation

#endif  // TANREN_TESTS_EMULATION_CONTEXT_H_
