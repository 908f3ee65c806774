#include "fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#ifndef CUDA_SHIM_USES_UCONTEXT
// swapcontext would make a system call for the signal mask at every switch. This switch saves only the registers that a
// function call must preserve.
extern "C" void cuda_shim_switch(void** save, void* load);
asm(R"(
.text
.p2align 4
.globl cuda_shim_switch
.hidden cuda_shim_switch
.type cuda_shim_switch, @function
cuda_shim_switch:
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
.size cuda_shim_switch, .-cuda_shim_switch
)");
#endif

namespace cuda_shim {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStack = 512 << 10;  // larger, because variables have red zones around them
#else
constexpr size_t kStack = 128 << 10;
#endif
constexpr size_t kGuard = 4096;

// For functions that do not return normally: without red zones, which the next thread on this stack would run into.
#define CUDA_SHIM_BARE __attribute__((no_sanitize("address"), noinline))

}  // namespace

Fiber* Fiber::starting_ = nullptr;

Fiber::Fiber() {
  mapping_ = mmap(nullptr, kGuard + kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(mapping_, kGuard, PROT_NONE);
  stack_ = static_cast<char*>(mapping_) + kGuard;
}

Fiber::~Fiber() { munmap(mapping_, kGuard + kStack); }

void Fiber::start(void (*entry)()) {
  entry_ = entry;
#ifdef __SANITIZE_ADDRESS__
  if (!left_) __asan_unpoison_memory_region(stack_, kStack);  // frames of an entry that did not finish
#endif
  left_ = false;
#ifdef CUDA_SHIM_USES_UCONTEXT
  getcontext(&own_);
  own_.uc_stack.ss_sp = stack_;
  own_.uc_stack.ss_size = kStack;
  own_.uc_link = nullptr;
  makecontext(&own_, begin, 0);
#else
  // The switch pops six registers and then returns to begin(). A function expects the stack pointer 8 bytes off a
  // multiple of 16, as a call instruction leaves it.
  uintptr_t* top = reinterpret_cast<uintptr_t*>(stack_ + kStack);
  top[-1] = 0;
  top[-2] = reinterpret_cast<uintptr_t>(&begin);
  for (int i = 3; i <= 8; ++i) top[-i] = 0;
  own_ = top - 8;
#endif
}

void Fiber::resume() {
  starting_ = this;
#ifdef __SANITIZE_ADDRESS__
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(&fake, stack_, kStack);
#endif
#ifdef CUDA_SHIM_USES_UCONTEXT
  swapcontext(&scheduler_, &own_);
#else
  cuda_shim_switch(&scheduler_, own_);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

CUDA_SHIM_BARE void Fiber::switch_out(bool for_good) {
#ifdef __SANITIZE_ADDRESS__
  void* fake = nullptr;
  __sanitizer_start_switch_fiber(for_good ? nullptr : &fake, scheduler_bottom_, scheduler_size_);
#else
  static_cast<void>(for_good);
#endif
#ifdef CUDA_SHIM_USES_UCONTEXT
  swapcontext(&own_, &scheduler_);
#else
  cuda_shim_switch(&own_, scheduler_);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(fake, &scheduler_bottom_, &scheduler_size_);
#endif
}

void Fiber::pause() { switch_out(false); }

CUDA_SHIM_BARE void Fiber::leave() {
  left_ = true;
  switch_out(true);
  abort();  // a fiber that has left is not resumed
}

CUDA_SHIM_BARE void Fiber::begin() {
  Fiber* self = starting_;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &self->scheduler_bottom_, &self->scheduler_size_);
#endif
  self->entry_();
  self->leave();
}

}  // namespace cuda_shim
