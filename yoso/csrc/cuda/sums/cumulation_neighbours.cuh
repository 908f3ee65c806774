// The tokens that collide with one token, in a fixed order: hash by hash, ascending within a hash. A group of lanes
// looks up several hashes at once and writes what it finds, a window at a time, into a list in shared memory. Crowded
// buckets are left out: their sums are taken instead.
#pragma once

#include "../sort/code_sort.h"

namespace yoso::cuda {

constexpr int kWindow = 64;  // ids of one list

template <int kLanes>
struct Neighbours {
  static constexpr int kEach = kLanes < 8 ? 4 : 32 / kLanes;  // hashes of one lane, side by side
  static constexpr int kHashes = kEach * kLanes;              // of one look-up
  int64_t index;  // of this lane's first hash among those of all heads in the buckets
  uint32_t entries[kEach];
  uint32_t place;  // in the group's list, of this lane's first id
  uint32_t total;  // ids of the group

  // Looks up hashes first_hash ... first_hash + kHashes - 1 of one query of the buckets' head-th head; finds nothing
  // where !wanted. Called by whole warps.
  __device__ void find(const Buckets& buckets, int64_t head, int64_t query, int first_hash, bool wanted) {
    const int lane = threadIdx.x % kLanes;
    index = head * buckets.num_hash + first_hash + lane * kEach;
#pragma unroll
    for (int r = 0; r < kEach; ++r) {
      entries[r] = 0;
      if (wanted && first_hash + lane * kEach + r < buckets.num_hash) {
        entries[r] = buckets.entries[(index + r) * buckets.num_query + query];
      }
    }
    uint32_t own = 0;
#pragma unroll
    for (int r = 0; r < kEach; ++r) own += bucket(r).y;
    uint32_t sum = own;
#pragma unroll
    for (int step = 1; step < kLanes; step *= 2) {
      const uint32_t below = __shfl_up_sync(kWholeWarp, sum, step, kLanes);
      if (lane >= step) sum += below;
    }
    place = sum - own;
    total = __shfl_sync(kWholeWarp, sum, kLanes - 1, kLanes);
  }

  __device__ bool crowded(int r) const { return (entries[r] & kCrowded) == kCrowded; }

  // Of this lane's r-th hash: the only id or the first position in ids, and how many ids are in the list.
  __device__ uint2 bucket(int r) const {
    return make_uint2(entries[r] >> kEntryShift, crowded(r) ? 0 : entries[r] & kCrowded);
  }

  // Writes places [from, from + kWindow) of the list, as far as they are this lane's.
  __device__ void write(const Buckets& buckets, uint32_t* list, uint32_t from) const {
    const uint32_t* ids = buckets.ids + index * buckets.num_key;
    uint32_t first[kEach], at[kEach], end[kEach], most = 0, next = place;
#pragma unroll
    for (int r = 0; r < kEach; ++r) {
      const uint2 found = bucket(r);
      const uint32_t begin = max(next, from);
      // A bucket of one key holds the id itself, and is never cut by a window.
      first[r] = found.x + (begin - next);
      at[r] = begin - from;
      next += found.y;
      end[r] = min(next, from + kWindow) - from;
      if (next > begin && end[r] > at[r])
        most = max(most, end[r] - at[r]);
      else
        end[r] = 0;
    }
    // One key of each hash at a time, so that the loads of several hashes are under way together.
#pragma unroll 1
    for (uint32_t k = 0; k < most; ++k) {
      uint32_t id[kEach];
#pragma unroll
      for (int r = 0; r < kEach; ++r) {
        id[r] = first[r];
        if (at[r] + k < end[r] && (entries[r] & kCrowded) != 1) id[r] = ids[r * buckets.num_key + first[r] + k];
      }
#pragma unroll
      for (int r = 0; r < kEach; ++r) {
        if (at[r] + k < end[r]) list[at[r] + k] = id[r];
      }
    }
  }
};

// The largest of the groups' values, for every lane of the warp.
template <int kLanes>
__device__ inline uint32_t largest_of_groups(uint32_t value) {
#pragma unroll
  for (int step = kLanes; step < kWarp; step *= 2) value = max(value, __shfl_xor_sync(kWholeWarp, value, step));
  return value;
}

}  // namespace yoso::cuda
