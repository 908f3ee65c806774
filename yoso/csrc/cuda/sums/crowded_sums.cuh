// How a token takes the sums of the crowded buckets that it looks up.
#pragma once

#include "crowded_sums.h"
#include "cumulation_neighbours.cuh"
#include "cumulation_rows.cuh"

namespace yoso::cuda {

// x += the rows of `sums` that a group's crowded entries name, hash by hash within each r. Called by whole warps.
template <typename Layout>
__device__ inline void add_crowded_sums(const Neighbours<Layout::kLanes>& found, const Buckets& buckets, int64_t head,
                                        int first_hash, const float* sums, int columns, float* x) {
#pragma unroll
  for (int r = 0; r < found.kEach; ++r) {
    // Lanes whose hash is crowded for some group: usually few.
    uint32_t lanes = __ballot_sync(kWholeWarp, found.crowded(r));
#pragma unroll
    for (int step = Layout::kLanes; step < kWarp; step *= 2) lanes |= lanes >> step;
    lanes &= kWholeWarp >> (kWarp - Layout::kLanes);
    const int64_t first_index = head * buckets.num_hash + first_hash + r;
#pragma unroll 2
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __ffs(static_cast<int>(lanes)) - 1;
      const uint32_t entry = __shfl_sync(kWholeWarp, found.entries[r], lane, Layout::kLanes);
      const int64_t row = (first_index + lane * found.kEach) * buckets.crowded_capacity + (entry >> kEntryShift);
      if ((entry & kCrowded) == kCrowded) add_floats<Layout>(sums + row * float_row(columns), columns, x);
    }
  }
}

}  // namespace yoso::cuda
