// Prefix sums of counters in shared memory, by a whole block.
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

constexpr int kMostSortThreads = 512;

struct Totals {
  uint32_t sum, largest;  // of the counts
  uint32_t of_threads;    // the sum of what the threads brought along
};

__device__ inline uint32_t inclusive_sum(uint32_t value) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int step = 1; step < kWarp; step *= 2) {
    const uint32_t below = __shfl_up_sync(kWholeWarp, value, step);
    if (lane >= step) value += below;
  }
  return value;
}

__device__ inline uint32_t largest_of_lanes(uint32_t value) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) value = max(value, __shfl_xor_sync(kWholeWarp, value, step));
  return value;
}

// Replaces each of `size` counts by the sum of those before it. size is a multiple of four, counts are aligned to 16
// bytes. The whole block, of up to kMostSortThreads, calls it after a barrier and meets at one before it returns. Each
// thread goes through a run of counts, four at a time.
__device__ inline Totals exclusive_scan(uint32_t* counts, uint32_t size, uint32_t of_thread = 0) {
  __shared__ uint32_t sums[kWarp], largests[kWarp], of_warps[kWarp];
  static_assert(kMostSortThreads / kWarp <= kWarp);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  auto* fours = reinterpret_cast<uint4*>(counts);
  const uint32_t each = (size / 4 + blockDim.x - 1) / blockDim.x;
  const uint32_t begin = min(size / 4, threadIdx.x * each), end = min(size / 4, begin + each);
  uint32_t own = 0, largest = 0;
  for (uint32_t v = begin; v < end; ++v) {
    const uint4 four = fours[v];
    own += four.x + four.y + four.z + four.w;
    largest = max(max(max(largest, four.x), max(four.y, four.z)), four.w);
  }
  const uint32_t up_to_own = inclusive_sum(own), up_to_thread = inclusive_sum(of_thread);
  largest = largest_of_lanes(largest);
  if (lane == kWarp - 1) sums[warp] = up_to_own, largests[warp] = largest, of_warps[warp] = up_to_thread;
  __syncthreads();
  const bool real = lane < warps;
  const uint32_t up_to_warp = inclusive_sum(real ? sums[lane] : 0);
  const uint32_t before_warp = __shfl_sync(kWholeWarp, up_to_warp, max(warp - 1, 0));
  const Totals totals{__shfl_sync(kWholeWarp, up_to_warp, kWarp - 1), largest_of_lanes(real ? largests[lane] : 0),
                      __shfl_sync(kWholeWarp, inclusive_sum(real ? of_warps[lane] : 0), kWarp - 1)};
  uint32_t next = (warp > 0 ? before_warp : 0) + up_to_own - own;
  for (uint32_t v = begin; v < end; ++v) {
    const uint4 four = fours[v];
    fours[v] = make_uint4(next, next + four.x, next + four.x + four.y, next + four.x + four.y + four.z);
    next += four.x + four.y + four.z + four.w;
  }
  __syncthreads();
  return totals;
}

}  // namespace yoso::cuda
