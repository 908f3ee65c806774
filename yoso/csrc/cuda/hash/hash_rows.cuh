// Loads vectors and converts them to float16 fragments of a matrix product.
#pragma once

#include <type_traits>

#include "../common/elements.cuh"
#include "../common/mma.cuh"
#include "hash.h"

namespace yoso::cuda {

// The factor by which a row with this largest magnitude is scaled before it is rounded to float16; the signs of
// projections do not depend on it.
//
// It is the power of two that brings the largest magnitude to [2^14, 2^15), the top of float16's range: what float16
// loses to underflow is then below 2^-39 of the largest magnitude. The factor is at most 2^127. Where it would be
// larger, all elements are multiples of 2^-149, which become multiples of 2^-22. Infinity stays infinity.
__device__ inline float scale_of(float largest) {
  const int exponent = __float_as_uint(largest) >> 23 & 0xff;
  return __uint_as_float(static_cast<uint32_t>(min(268 - exponent, 254)) << 23);
}

// The error of rounding to float16.
__device__ inline float float16_error(float v) { return v - __half2float(__float2half_rn(v)); }

// Columns first ... first + 7 of a row as words, zero from `dim` on. `first` is a multiple of 8.
template <typename T>
__device__ inline void load_columns(const T* row, int first, int dim, uint32_t (&words)[2 * sizeof(T)]) {
  constexpr int kPart = 16 / sizeof(T);
#pragma unroll
  for (int i = 0; i < 8 / kPart; ++i) {
    uint4 part = {0, 0, 0, 0};
    if (first + i * kPart < dim) part = *reinterpret_cast<const uint4*>(row + first + i * kPart);
    words[4 * i] = part.x, words[4 * i + 1] = part.y, words[4 * i + 2] = part.z, words[4 * i + 3] = part.w;
  }
}

__device__ inline float largest_magnitude(float largest, const float (&v)[8]) {
#pragma unroll
  for (float x : v) largest = fmaxf(largest, fabsf(x));
  return largest;
}

// The largest value of the four lanes that hold a row.
__device__ inline float largest_of_row(float largest) {
  largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 1));
  return fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 2));
}

// A warp's 16 * kTiles vectors as fragments of kPairs pairs of mma steps, which cover dim. Each row of the fragments
// holds 2 * kTiles consecutive vectors. The order of columns within a product's k is free as long as vectors and
// directions agree: a lane reads eight consecutive columns of a row at once.
template <int kPairs, int kTiles, typename T>
struct Vectors {
  static constexpr bool kSplit = std::is_same_v<T, float>;
  static constexpr int kRows = 2 * kTiles;

  FragmentA big[kTiles][2 * kPairs], small[kSplit ? kTiles : 1][kSplit ? 2 * kPairs : 1];

  // Loads this lane's rows first, first + 1, ..., zero from the rows-th on. All loads are issued before the first use.
  __device__ void load(const HashParams& p, uint32_t head, int64_t first, int rows) {
    const T* x = static_cast<const T*>(p.x.data) + p.head_offset(head) + first * p.x.stride_row;
    uint32_t words[kRows][kPairs][2 * sizeof(T)];
#pragma unroll
    for (int row = 0; row < kRows; ++row, x += p.x.stride_row) {
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        load_columns(x, pair * 32 + threadIdx.x % 4 * 8, row < rows ? p.dim : 0, words[row][pair]);
      }
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) split(row, words[row], static_cast<const T*>(nullptr));
  }

 private:
  // The fragment word that holds columns 2 i and 2 i + 1 of one of the lane's rows.
  template <int kAll>
  __device__ static uint32_t& word_of(FragmentA (&fragments)[kAll][2 * kPairs], int row, int i) {
    return fragments[row / 2][i / 2].x[i % 2 * 2 + row % 2];
  }

  __device__ void split(int row, const uint32_t (&words)[kPairs][4], const __half*) {
#pragma unroll
    for (int i = 0; i < 4 * kPairs; ++i) word_of(big, row, i) = words[i / 4][i % 4];
  }

  // In packed pairs: the columns of several rows as floats would not fit into registers.
  __device__ void split(int row, const uint32_t (&words)[kPairs][4], const __nv_bfloat16*) {
    __nv_bfloat162 pairs[4 * kPairs], largest = __floats2bfloat162_rn(0.0f, 0.0f);
    memcpy(pairs, words, sizeof(pairs));
#pragma unroll
    for (const __nv_bfloat162& pair : pairs) largest = __hmax2(largest, __habs2(pair));
    const float factor = scale_of(largest_of_row(fmaxf(__low2float(largest), __high2float(largest))));
#pragma unroll
    for (int i = 0; i < 4 * kPairs; ++i) {
      const __nv_bfloat162 scaled = __hmul2(pairs[i], __floats2bfloat162_rn(factor, factor));
      uint32_t word;
      memcpy(&word, &scaled, sizeof(word));
      float both[2];
      to_floats(word, both, static_cast<const __nv_bfloat16*>(nullptr));
      word_of(big, row, i) = pack(both[0], both[1], __half());
    }
  }

  __device__ void split(int row, const uint32_t (&words)[kPairs][8], const float*) {
    float v[kPairs][8], largest = 0;
    memcpy(v, words, sizeof(v));
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) largest = largest_magnitude(largest, v[pair]);
    const float factor = scale_of(largest_of_row(largest));
#pragma unroll
    for (int i = 0; i < 4 * kPairs; ++i) {
      const float low = v[i / 4][i % 4 * 2] * factor, high = v[i / 4][i % 4 * 2 + 1] * factor;
      word_of(big, row, i) = pack(low, high, __half());
      word_of(small, row, i) = pack(float16_error(low), float16_error(high), __half());
    }
  }
};

}  // namespace yoso::cuda
