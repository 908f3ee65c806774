// The tokens that collide with one token, in a fixed order: hash by hash, ascending within a hash. A group of lanes
// looks up several hashes at once and writes the ids, one window at a time, into a list in shared memory. Crowded
// buckets are left out of the list: their sums are added as a whole, by add_crowded_sums.
#pragma once

#include "../sort/code_sort.h"
#include "crowded_sums.h"
#include "lane_rows.cuh"

namespace yoso::cuda {

constexpr int kWindow = 64;  // ids in one list

template <int kLanes>
struct CollidingTokens {
  static constexpr int kHashesPerLane = kLanes < 8 ? 4 : 32 / kLanes;  // consecutive hashes
  static constexpr int kHashes = kHashesPerLane * kLanes;              // of one look-up
  int64_t index;  // (head, hash) of this lane's first hash, counted over the buckets' heads
  uint32_t entries[kHashesPerLane];
  uint32_t position;  // of this lane's first id in the group's list
  uint32_t total;     // ids in the group's list

  // Looks up hashes first_hash ... first_hash + kHashes - 1 for one query of the buckets' head-th head; the list is
  // empty if not `wanted`. Called by whole warps.
  __device__ void look_up(const Buckets& buckets, int64_t head, int64_t query, int first_hash, bool wanted) {
    const int lane = threadIdx.x % kLanes;
    index = head * buckets.num_hash + first_hash + lane * kHashesPerLane;
#pragma unroll
    for (int r = 0; r < kHashesPerLane; ++r) {
      entries[r] = 0;
      if (wanted && first_hash + lane * kHashesPerLane + r < buckets.num_hash) {
        entries[r] = buckets.entries[(index + r) * buckets.num_query + query];
      }
    }
    uint32_t own = 0;
#pragma unroll
    for (int r = 0; r < kHashesPerLane; ++r) own += listed(r).y;
    uint32_t sum = own;
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) {
      const uint32_t below = __shfl_up_sync(kWholeWarp, sum, step, kLanes);
      if (lane >= step) sum += below;
    }
    position = sum - own;
    total = __shfl_sync(kWholeWarp, sum, kLanes - 1, kLanes);
  }

  // Whether the bucket of this lane's r-th hash is crowded.
  __device__ bool crowded(int r) const { return (entries[r] & kCrowded) == kCrowded; }

  // For this lane's r-th hash: the payload of the entry, that is the only id or the first position in ids, and the
  // number of ids in the list.
  __device__ uint2 listed(int r) const {
    return make_uint2(entries[r] >> kEntryShift, crowded(r) ? 0 : entries[r] & kCrowded);
  }

  // Writes this lane's ids at positions [from, from + kWindow) of the group's list.
  __device__ void write_window(const Buckets& buckets, uint32_t* list, uint32_t from) const {
    const uint32_t* ids = buckets.ids + index * buckets.num_key;
    uint32_t first[kHashesPerLane], at[kHashesPerLane], end[kHashesPerLane], most = 0, next = position;
#pragma unroll
    for (int r = 0; r < kHashesPerLane; ++r) {
      const uint2 bucket = listed(r);
      const uint32_t begin = max(next, from);
      // The payload of a bucket of one key is the id itself, which the addition leaves alone: it is in one window.
      first[r] = bucket.x + (begin - next);
      at[r] = begin - from;
      next += bucket.y;
      end[r] = min(next, from + kWindow) - from;
      if (next > begin && end[r] > at[r])
        most = max(most, end[r] - at[r]);
      else
        end[r] = 0;
    }
    // One key of each hash at a time, so that the loads of several hashes are in flight together.
#pragma unroll 1
    for (uint32_t k = 0; k < most; ++k) {
      uint32_t id[kHashesPerLane];
#pragma unroll
      for (int r = 0; r < kHashesPerLane; ++r) {
        id[r] = first[r];
        if (at[r] + k < end[r] && (entries[r] & kCrowded) != 1) id[r] = ids[r * buckets.num_key + first[r] + k];
      }
#pragma unroll
      for (int r = 0; r < kHashesPerLane; ++r) {
        if (at[r] + k < end[r]) list[at[r] + k] = id[r];
      }
    }
  }
};

// The largest of the values of a warp's groups of kLanes lanes, in every lane.
template <int kLanes>
__device__ inline uint32_t largest_of_groups(uint32_t value) {
#pragma unroll
  for (int step = kLanes; step < kWarp; step *= 2) value = max(value, __shfl_xor_sync(kWholeWarp, value, step));
  return value;
}

// x += the rows of `sums` (launch_crowded_sums) for the crowded buckets that a group looked up, in the order of r and
// then of lanes. Called by whole warps.
template <typename Layout>
__device__ inline void add_crowded_sums(const CollidingTokens<Layout::kLanes>& tokens, const Buckets& buckets,
                                        int64_t head, int first_hash, const float* sums, int columns, float* x) {
#pragma unroll
  for (int r = 0; r < tokens.kHashesPerLane; ++r) {
    // Lanes whose hash is crowded for any group of the warp; usually few.
    uint32_t lanes = __ballot_sync(kWholeWarp, tokens.crowded(r));
#pragma unroll
    for (int step = Layout::kLanes; step < kWarp; step *= 2) lanes |= lanes >> step;
    lanes &= kWholeWarp >> (kWarp - Layout::kLanes);
    const int64_t first_index = head * buckets.num_hash + first_hash + r;
#pragma unroll 2
    for (; lanes != 0; lanes &= lanes - 1) {
      const int lane = __ffs(static_cast<int>(lanes)) - 1;
      const uint32_t entry = __shfl_sync(kWholeWarp, tokens.entries[r], lane, Layout::kLanes);
      const int64_t row =
          (first_index + lane * tokens.kHashesPerLane) * buckets.crowded_capacity + (entry >> kEntryShift);
      if ((entry & kCrowded) == kCrowded) add_floats<Layout>(sums + row * float_row(columns), columns, x);
    }
  }
}

}  // namespace yoso::cuda
