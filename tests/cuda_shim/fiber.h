// One thread of a block as a fiber: a stack of its own, and a switch to it and back.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) || defined(CUDA_SHIM_UCONTEXT)
#include <ucontext.h>
#define CUDA_SHIM_USES_UCONTEXT
#endif

namespace cuda_shim {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next resume() run entry from its beginning; whatever the fiber was in the middle of is forgotten.
  // entry must end with leave().
  void start(void (*entry)());
  // Called by the scheduler: runs the fiber until it calls pause() or leave().
  void resume();
  // Called on the fiber: back to the scheduler.
  void pause();
  [[noreturn]] void leave();

 private:
  void switch_out(bool for_good);

  void* mapping_;
  char* stack_;
#ifdef CUDA_SHIM_USES_UCONTEXT
  ucontext_t own_, scheduler_;
#else
  void *own_ = nullptr, *scheduler_ = nullptr;  // stack pointers; the registers lie on the stacks
#endif
  // What AddressSanitizer is told of the scheduler's stack.
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
  void (*entry_)() = nullptr;
  bool left_ = true;

  static void begin();
  static Fiber* starting_;
};

}  // namespace cuda_shim
