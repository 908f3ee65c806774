// A stable radix sort within a block, by digits of at most 8 bits.
#pragma once

#include "code_sort.h"

namespace yoso::cuda {

constexpr int kMostSortThreads = 1024;

// Counters of one digit: one a warp, and one more, so that the digits of a warp lie in different banks.
__host__ __device__ constexpr int64_t counter_stride(int threads) { return threads / kWarp + 1; }

// A key on its way into a bucket: the digit that this pass sorts by, and what it carries along.
struct Item {
  bool sorted;
  uint32_t digit, word;
};

// Tokens in their own order, by the low bits of their codes; the high bits travel with the id where a pass follows.
struct FromCodes {
  const uint16_t* codes;
  const bool* mask;
  int low_bits, code_bits;

  __device__ Item operator()(uint32_t j) const {
    const uint32_t code = codes[j], high = code >> low_bits;
    const bool sorted = code >> code_bits == 0 && (!mask || mask[j]);
    return {sorted, code & ((1u << low_bits) - 1), low_bits == code_bits ? j : j << kEntryShift | high};
  }
};

// The first pass's result, by the high bits.
struct FromHalfway {
  const uint32_t* words;

  __device__ Item operator()(uint32_t position) const {
    const uint32_t word = words[position];
    return {true, word & ((1u << kEntryShift) - 1), word >> kEntryShift};
  }
};

// Replaces each of size counts by the sum of those before it; the whole block calls it, after a barrier, and meets at
// one again before it returns. Each warp goes through a run of counts, 32 side by side at a time.
__device__ inline void exclusive_scan(uint32_t* counts, uint32_t size) {
  __shared__ uint32_t sums[kMostSortThreads / kWarp];
  const uint32_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const uint32_t run = (size + blockDim.x - 1) / blockDim.x * kWarp;
  const uint32_t begin = min(size, warp * run), end = min(size, begin + run);
  uint32_t own = 0;
  for (uint32_t c = begin + lane; c < end; c += kWarp) own += counts[c];
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) own += __shfl_xor_sync(kWholeWarp, own, step);
  if (lane == 0) sums[warp] = own;
  __syncthreads();
  uint32_t before = 0;
  for (uint32_t w = 0; w < warp; ++w) before += sums[w];
  for (uint32_t first = begin; first < end; first += kWarp) {
    const uint32_t count = first + lane < end ? counts[first + lane] : 0;
    uint32_t sum = count;
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      const uint32_t below = __shfl_up_sync(kWholeWarp, sum, step);
      if (lane >= step) sum += below;
    }
    if (first + lane < end) counts[first + lane] = before + sum - count;
    before += __shfl_sync(kWholeWarp, sum, kWarp - 1);
  }
  __syncthreads();
}

// The lanes among `voters` whose digit is this lane's.
__device__ inline uint32_t lanes_with_same(uint32_t digit, int bits, uint32_t voters) {
  uint32_t same = voters;
  for (int bit = 0; bit < bits; ++bit) {
    const bool one = digit >> bit & 1;
    const uint32_t ones = __ballot_sync(kWholeWarp, one);
    same &= one ? ones : ~ones;
  }
  return same;
}

// Sorts `size` items by their digits of `bits` bits into `to`, stably: each warp takes a run of items, counts its
// digits, and after the scan of counters [digit][warp] knows where its first item of each digit goes.
// The block meets at a barrier before it returns.
template <typename Source>
__device__ void radix_pass(Source source, uint32_t size, int bits, uint32_t* counters, uint32_t* to) {
  const int stride = static_cast<int>(counter_stride(blockDim.x)), lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const uint32_t run = (size + blockDim.x - 1) / blockDim.x * kWarp;
  const uint32_t begin = min(size, warp * run), end = min(size, begin + run);
  const int num_counters = stride << bits;
  for (int c = threadIdx.x; c < num_counters; c += blockDim.x) counters[c] = 0;
  __syncthreads();
#pragma unroll 4
  for (uint32_t j = begin + lane; j < end; j += kWarp) {
    const Item item = source(j);
    if (item.sorted) atomicAdd(&counters[item.digit * stride + warp], 1u);
  }
  __syncthreads();
  exclusive_scan(counters, num_counters);
  for (uint32_t first = begin; first < end; first += kWarp) {
    Item item{false, 0, 0};
    if (first + lane < end) item = source(first + lane);
    const uint32_t same = lanes_with_same(item.digit, bits, __ballot_sync(kWholeWarp, item.sorted));
    const uint32_t before = same & ((1u << lane) - 1);
    uint32_t* counter = &counters[item.digit * stride + warp];
    const uint32_t place = item.sorted ? *counter + __popc(before) : 0;
    __syncwarp();
    if (item.sorted) {
      if (before == 0) *counter = place + __popc(same);
      to[place] = item.word;
    }
    __syncwarp();
  }
  __syncthreads();
}

}  // namespace yoso::cuda
