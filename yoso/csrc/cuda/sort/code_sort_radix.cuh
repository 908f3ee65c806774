// A stable radix sort within a block, by digits of at most 8 bits.
#pragma once

#include "code_sort.h"
#include "code_sort_scan.cuh"

namespace yoso::cuda {

// Counters of one digit: one a warp, and one more, so that the digits of a warp lie in different banks.
__host__ __device__ constexpr int64_t counter_stride(int threads) { return threads / kWarp + 1; }

// Words of shared memory that a pass over digits of `bits` bits takes.
__host__ __device__ constexpr int64_t counter_words(int threads, int bits) {
  return ((counter_stride(threads) << bits) + 3) / 4 * 4;
}

// A key on its way into a bucket: the digit that this pass sorts by, and what it carries along.
struct Item {
  bool sorted;
  uint32_t digit, word;
};

// Tokens in their own order, by the low bits of their codes from first_code on; the high bits travel with the id where
// a pass follows. Codes of first_code + num_codes on are another block's.
struct FromCodes {
  const uint16_t* codes;
  const bool* mask;
  uint32_t first_code, num_codes;
  int low_bits;
  bool last;  // no pass follows

  __device__ Item operator()(uint32_t j) const {
    const uint32_t code = codes[j] - first_code;
    const bool sorted = code < num_codes && (!mask || mask[j]);
    return {sorted, code & ((1u << low_bits) - 1), last ? j : j << kEntryShift | code >> low_bits};
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
  const int num_counters = static_cast<int>(counter_words(blockDim.x, bits));
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
