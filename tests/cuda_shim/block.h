// Runs the CTAs of a kernel one after the other, with the threads of a CTA as fibers, and holds the state that threads
// share. Here a CTA is called a block, as in CUDA's own names.
#pragma once

#include <functional>
#include <source_location>
#include <string>

#include "types.h"

namespace cuda_shim {

using Where = std::source_location;

// Sets the order in which the blocks of a grid run, and the threads of a block between two barriers: 0 ascending, 1
// descending, any other number the seed of a random order. With an odd seed from 3 on, the warps of a block take turns:
// every warp-wide operation switches to the next warp. Odd orders also delay asynchronous copies (copies.h).
void set_order(uint64_t order);
uint64_t order();

// The device attributes that kernels can query.
struct DeviceLimits {
  int multiprocessors = 132;
  int shared_bytes = 227 << 10;  // of one block
  int major = 9, minor = 0;
};
DeviceLimits& device_limits();

enum class Launch { kDone, kBadConfiguration };

// Calls thread() for every thread of every block.
// Throws std::runtime_error if not all threads reach the same barrier, or if a warp-wide operation is misused.
Launch run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);

// The following functions are called by the running thread.

// The block's dynamic shared memory, exactly the launch's shared_bytes; null if that is 0.
void* dynamic_shared();

// Waits until every thread of the block has called it at the same source location.
// Returns the number of threads for which the predicate holds.
int block_barrier(bool predicate, Where where);

// Waits until all 32 lanes of the warp have called it at the same source location.
// Returns the values of the 32 lanes, valid until this thread's next call.
const uint64_t* warp_exchange(unsigned mask, uint64_t value, Where where);

unsigned lane();

// Ends the launch with an error that names the source location.
[[noreturn]] void fail(const std::string& message, Where where);

}  // namespace cuda_shim
