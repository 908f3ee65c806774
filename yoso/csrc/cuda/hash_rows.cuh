// Vectors from memory into registers: scaled, and as float16 in the fragments of a product.
#pragma once

#include <type_traits>

#include "hash.h"
#include "mma.cuh"

namespace yoso::cuda {

// Columns first .. first + kCount of a row of `dim` columns, zero beyond it; first and kCount are multiples of 16
// bytes. aligned: see HashParams.
template <int kCount, typename T>
__device__ inline void load_columns(const T* row, int first, int dim, bool aligned, float (&v)[kCount]) {
  constexpr int kPart = 16 / sizeof(T);
  if (aligned) {
#pragma unroll
    for (int c = 0; c < kCount; c += kPart) {
      alignas(16) T part[kPart];
      *reinterpret_cast<uint4*>(part) =
          first + c < dim ? *reinterpret_cast<const uint4*>(row + first + c) : uint4{0, 0, 0, 0};
#pragma unroll
      for (int i = 0; i < kPart; ++i) v[c + i] = static_cast<float>(part[i]);
    }
  } else {
#pragma unroll
    for (int c = 0; c < kCount; ++c) v[c] = first + c < dim ? static_cast<float>(row[first + c]) : 0.0f;
  }
}

// The power of two that brings the largest magnitude of a row to [2^14, 2^15), the top of float16's range: what float16
// drops is then below 2^-39 of it. Where that takes more than 2^127, all numbers are multiples of 2^-149 and become
// ones of 2^-22. Infinity stays infinity.
__device__ inline float scale_of(float largest) {
  const int exponent = __float_as_uint(largest) >> 23 & 0xff;
  return __uint_as_float(static_cast<uint32_t>(min(268 - exponent, 254)) << 23);
}

__device__ inline float largest_of(const float (&v)[8]) {
  float largest = 0;
#pragma unroll
  for (float x : v) largest = fmaxf(largest, fabsf(x));
  return largest;
}

// What rounding to float16 leaves.
__device__ inline float rest(float v) { return v - __half2float(__float2half_rn(v)); }

// kPairs pairs of steps cover dim; a warp takes 16 kTiles vectors, 2 kTiles neighbours a row of its fragments. The
// order of columns within a product's k is free as long as both sides agree: a lane reads eight neighbours of a row at
// once.
template <int kPairs, int kTiles, typename T>
struct Vectors {
  static constexpr bool kSplit = std::is_same_v<T, float>;
  FragmentA big[kTiles][2 * kPairs], small[kSplit ? kTiles : 1][kSplit ? 2 * kPairs : 1];

  __device__ void load(const HashParams& p, uint32_t head, int64_t first) {
    const int quarter = threadIdx.x % 4;
    const T* x = static_cast<const T*>(p.x.data) + p.head_offset(head);
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      float v[kPairs][8], largest = 0;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        load_columns(x + (first + i) * p.x.stride_row, (pair * 4 + quarter) * 8, first + i < p.length ? p.dim : 0,
                     p.aligned, v[pair]);
        largest = fmaxf(largest, largest_of(v[pair]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 2));
      const float scale = scale_of(largest);
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
        for (int c = 0; c < 8; c += 2) {
          const float low = v[pair][c] * scale, high = v[pair][c + 1] * scale;
          const int step = 2 * pair + c / 4, word = c / 2 % 2 * 2 + i % 2;
          big[i / 2][step].x[word] = pack(low, high, __half());
          if constexpr (kSplit) small[i / 2][step].x[word] = pack(rest(low), rest(high), __half());
        }
      }
    }
  }
};

}  // namespace yoso::cuda
