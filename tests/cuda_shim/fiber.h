// One thread of a block as a fiber: its own stack, and switches to it and back.
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

  // Makes the next resume() run entry from its beginning, also if an earlier entry has not finished.
  void start(void (*entry)());
  // Called by the scheduler: runs the fiber until it pauses or entry returns.
  void resume();
  // Called on the fiber: switches back to the scheduler, until the next resume().
  void pause();

 private:
  // Ends the fiber after entry has returned.
  [[noreturn]] void leave();
  void switch_out(bool for_good);

  void* mapping_;
  char* stack_;
#ifdef CUDA_SHIM_USES_UCONTEXT
  ucontext_t own_, scheduler_;
#else
  void *own_ = nullptr, *scheduler_ = nullptr;  // stack pointers; the registers are on the stacks
#endif
  // The scheduler's stack, for AddressSanitizer.
  const void* scheduler_bottom_ = nullptr;
  size_t scheduler_size_ = 0;
  void (*entry_)() = nullptr;
  bool left_ = true;

  static void begin();
  static Fiber* starting_;
};

}  // namespace cuda_shim
