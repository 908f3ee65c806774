// Runs a kernel's blocks one after the other, the threads of a block as fibers, and holds what threads share.
#pragma once

#include <functional>
#include <source_location>
#include <string>

#include "types.h"

namespace cuda_shim {

using Where = std::source_location;

// The order in which the threads between two barriers run, and the blocks of a grid: 0 ascending, 1 descending, any
// other number the seed of a random order; with an odd one, a block's warps take turns wherever they meet.
void set_order(uint64_t order);
uint64_t order();

// What the kernels are told of the device.
struct DeviceLimits {
  int multiprocessors = 132;
  int shared_bytes = 227 << 10;  // of one block
  int major = 9, minor = 0;
};
DeviceLimits& device_limits();

enum class Launch { kDone, kBadConfiguration };

// Runs thread() for every thread of every block.
// Throws std::runtime_error where threads do not meet at a barrier or misuse a warp's collective.
Launch run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& thread);

// The rest is called by the thread that runs now.

// Of exactly the launch's shared_bytes; null where none was asked for.
void* dynamic_shared();

// Waits until every thread of the block has called it at the same place.
// Returns for how many threads the predicate holds.
int block_barrier(bool predicate, Where where);

// Waits until all 32 lanes of the warp have called it at the same place.
// Returns the 32 values that the lanes gave, good until this thread calls it again.
const uint64_t* warp_exchange(unsigned mask, uint64_t value, Where where);

unsigned lane();

// Ends the launch with an error that names the place.
[[noreturn]] void fail(const std::string& message, Where where);

}  // namespace cuda_shim
