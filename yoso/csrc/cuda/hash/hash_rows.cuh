// Vectors from memory into the fragments of a product, as float16 numbers.
#pragma once

#include <type_traits>

#include "../common/elements.cuh"
#include "../common/mma.cuh"
#include "hash.h"

namespace yoso::cuda {

// A sign does not change when a vector is multiplied by a positive number, so that float16 can hold any row.
//
// The power of two that brings the largest magnitude of a row to [2^14, 2^15), the top of float16's range: what float16
// drops is then below 2^-39 of it. Where that takes more than 2^127, all numbers are multiples of 2^-149 and become
// ones of 2^-22. Infinity stays infinity.
__device__ inline float scale_of(float largest) {
  const int exponent = __float_as_uint(largest) >> 23 & 0xff;
  return __uint_as_float(static_cast<uint32_t>(min(268 - exponent, 254)) << 23);
}

// What rounding to float16 leaves.
__device__ inline float rest(float v) { return v - __half2float(__float2half_rn(v)); }

// Columns first .. first + 8 of a row as words, zero from `dim` on; first is a multiple of 8.
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

__device__ inline float larger(float largest, const float (&v)[8]) {
#pragma unroll
  for (float x : v) largest = fmaxf(largest, fabsf(x));
  return largest;
}

__device__ inline float largest_of_row(float largest) {
  largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 1));
  return fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 2));
}

// kPairs pairs of steps cover dim; a warp takes 16 kTiles vectors, 2 kTiles neighbours a row of its fragments. The
// order of columns within a product's k is free as long as both sides agree: a lane reads eight neighbours of a row at
// once.
template <int kPairs, int kTiles, typename T>
struct Vectors {
  static constexpr bool kSplit = std::is_same_v<T, float>;
  static constexpr int kRows = 2 * kTiles;

  FragmentA big[kTiles][2 * kPairs], small[kSplit ? kTiles : 1][kSplit ? 2 * kPairs : 1];

  // The lane's rows from `first` on, zero from the rows-th on. All are asked for before one is used.
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
  // Word i, of two columns, of a row that the lane holds.
  template <int kAll>
  __device__ static uint32_t& place(FragmentA (&fragments)[kAll][2 * kPairs], int row, int i) {
    return fragments[row / 2][i / 2].x[i % 2 * 2 + row % 2];
  }

  __device__ void split(int row, const uint32_t (&words)[kPairs][4], const __half*) {
#pragma unroll
    for (int i = 0; i < 4 * kPairs; ++i) place(big, row, i) = words[i / 4][i % 4];
  }

  // In pairs: a row's columns as floats, several rows at a time, would not fit into registers.
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
      place(big, row, i) = pack(both[0], both[1], __half());
    }
  }

  __device__ void split(int row, const uint32_t (&words)[kPairs][8], const float*) {
    float v[kPairs][8], largest = 0;
    memcpy(v, words, sizeof(v));
#pragma unroll
    for (int pair = 0; pair < kPairs; ++pair) largest = larger(largest, v[pair]);
    const float factor = scale_of(largest_of_row(largest));
#pragma unroll
    for (int i = 0; i < 4 * kPairs; ++i) {
      const float low = v[i / 4][i % 4 * 2] * factor, high = v[i / 4][i % 4 * 2 + 1] * factor;
      place(big, row, i) = pack(low, high, __half());
      place(small, row, i) = pack(rest(low), rest(high), __half());
    }
  }
};

}  // namespace yoso::cuda
