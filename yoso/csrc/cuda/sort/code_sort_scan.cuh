// Prefix sums of counters in shared memory, by all threads of a CTA.
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

constexpr int kMostSortThreads = 512;

struct Totals {
  uint32_t sum, largest;  // of the counts
  uint32_t thread_sum;    // of the threads' own values
};

// The sum of the values of this lane and the lanes before it.
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

// Replaces each of `size` counts by the sum of those before it. Also sums thread_value over the threads. size is a
// multiple of four, counts are aligned to 16 bytes. All threads of the CTA, at most kMostSortThreads, call this after a
// barrier; it ends with a barrier. Each thread processes consecutive counts, four at a time.
__device__ inline Totals exclusive_scan(uint32_t* counts, uint32_t size, uint32_t thread_value = 0) {
  __shared__ uint32_t warp_sums[kWarp], warp_largest[kWarp], warp_values[kWarp];
  static_assert(kMostSortThreads / kWarp <= kWarp);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  auto* fours = reinterpret_cast<uint4*>(counts);
  const uint32_t fours_per_thread = (size / 4 + blockDim.x - 1) / blockDim.x;
  const uint32_t begin = min(size / 4, threadIdx.x * fours_per_thread), end = min(size / 4, begin + fours_per_thread);
  uint32_t own = 0, largest = 0;
  for (uint32_t v = begin; v < end; ++v) {
    const uint4 four = fours[v];
    own += four.x + four.y + four.z + four.w;
    largest = max(max(max(largest, four.x), max(four.y, four.z)), four.w);
  }
  const uint32_t up_to_own = inclusive_sum(own), up_to_value = inclusive_sum(thread_value);
  largest = largest_of_lanes(largest);
  if (lane == kWarp - 1) warp_sums[warp] = up_to_own, warp_largest[warp] = largest, warp_values[warp] = up_to_value;
  __syncthreads();
  const bool is_warp = lane < warps;  // lane i now stands for warp i
  const uint32_t up_to_warp = inclusive_sum(is_warp ? warp_sums[lane] : 0);
  const uint32_t before_warp = __shfl_sync(kWholeWarp, up_to_warp, max(warp - 1, 0));
  const Totals totals{__shfl_sync(kWholeWarp, up_to_warp, kWarp - 1),
                      largest_of_lanes(is_warp ? warp_largest[lane] : 0),
                      __shfl_sync(kWholeWarp, inclusive_sum(is_warp ? warp_values[lane] : 0), kWarp - 1)};
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
