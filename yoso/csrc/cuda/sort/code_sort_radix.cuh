// A stable radix sort by the threads of one CTA, with digits of at most 8 bits.
#pragma once

#include "code_sort.h"
#include "code_sort_scan.cuh"

namespace yoso::cuda {

// Words per digit in the table of counters [digit][warp]: one per warp, and one word of padding, so that the counters
// of a warp for different digits are in different banks.
__host__ __device__ constexpr int64_t counter_stride(int threads) { return threads / kWarp + 1; }

// Words of shared memory that the counters of a pass over digits of `bits` bits take.
__host__ __device__ constexpr int64_t counter_words(int threads, int bits) {
  return ((counter_stride(threads) << bits) + 3) / 4 * 4;
}

// A key in a pass: the digit that the pass sorts by, and the word that it moves.
struct RadixItem {
  bool sorted;  // false: the key is masked or belongs to another CTA, and is left out
  uint32_t digit, word;
};

// The source of the first pass: tokens in their own order. The digit is the low bits of the code within [first_code,
// first_code + num_codes); other codes are left out. If a pass follows, the word holds the code's high bits below the
// token's id.
struct RadixFromCodes {
  const uint16_t* codes;
  const bool* mask;
  uint32_t first_code, num_codes;
  int low_bits;
  bool last;  // no pass follows

  __device__ RadixItem operator()(uint32_t token) const {
    const uint32_t code = codes[token] - first_code;
    const bool sorted = code < num_codes && (!mask || mask[token]);
    return {sorted, code & ((1u << low_bits) - 1), last ? token : token << kEntryShift | code >> low_bits};
  }
};

// The source of the second pass: the words of the first. The digit is the code's high bits, the word becomes the id.
struct RadixFromFirstPass {
  const uint32_t* words;

  __device__ RadixItem operator()(uint32_t position) const {
    const uint32_t word = words[position];
    return {true, word & ((1u << kEntryShift) - 1), word >> kEntryShift};
  }
};

// A mask of the lanes among `voters` whose digit equals this lane's.
__device__ inline uint32_t lanes_with_same_digit(uint32_t digit, int bits, uint32_t voters) {
  uint32_t same = voters;
  for (int bit = 0; bit < bits; ++bit) {
    const bool is_set = digit >> bit & 1;
    const uint32_t set_lanes = __ballot_sync(kWholeWarp, is_set);
    same &= is_set ? set_lanes : ~set_lanes;
  }
  return same;
}

// Writes the words of `size` items to `sorted_words`, stably sorted by their digits of `bits` bits. Each warp takes a
// contiguous run of items and counts its digits. After an exclusive scan over the counters [digit][warp], a counter is
// the position of the warp's next item with that digit. Ends with a barrier.
template <typename Source>
__device__ void radix_pass(Source source, uint32_t size, int bits, uint32_t* counters, uint32_t* sorted_words) {
  const int stride = static_cast<int>(counter_stride(blockDim.x)), lane = threadIdx.x % kWarp;
  const int warp = threadIdx.x / kWarp;
  const uint32_t run = (size + blockDim.x - 1) / blockDim.x * kWarp;
  const uint32_t begin = min(size, warp * run), end = min(size, begin + run);
  const int num_counters = static_cast<int>(counter_words(blockDim.x, bits));
  for (int c = threadIdx.x; c < num_counters; c += blockDim.x) counters[c] = 0;
  __syncthreads();
#pragma unroll 4
  for (uint32_t j = begin + lane; j < end; j += kWarp) {
    const RadixItem item = source(j);
    if (item.sorted) atomicAdd(&counters[item.digit * stride + warp], 1u);
  }
  __syncthreads();
  exclusive_scan(counters, num_counters);
  for (uint32_t first = begin; first < end; first += kWarp) {
    RadixItem item{false, 0, 0};
    if (first + lane < end) item = source(first + lane);
    const uint32_t same = lanes_with_same_digit(item.digit, bits, __ballot_sync(kWholeWarp, item.sorted));
    const uint32_t same_before = same & ((1u << lane) - 1);
    uint32_t* counter = &counters[item.digit * stride + warp];
    const uint32_t position = item.sorted ? *counter + __popc(same_before) : 0;
    __syncwarp();
    if (item.sorted) {
      if (same_before == 0) *counter = position + __popc(same);
      sorted_words[position] = item.word;
    }
    __syncwarp();
  }
  __syncthreads();
}

}  // namespace yoso::cuda
