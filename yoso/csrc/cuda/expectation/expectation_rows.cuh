// Loads rows into tiles of shared memory, and stores results, for expectation_kernel.cuh.
#pragma once

#include "../common/mma.cuh"
#include "expectation.h"

namespace yoso::cuda {

template <typename T>
__device__ inline const T* head_start(const Rows& rows, int64_t batch, int64_t head) {
  return static_cast<const T*>(rows.data) + batch * rows.stride_batch + head * rows.stride_head;
}

// Starts loading rows first, first + 1, ... of a head into tile[kRows][kDim], whose rows are kStride apart. Masked
// rows, rows from `count` on and columns from `dim` on become zero, whatever memory holds there. The weight of a zero
// row is not zero, but it is only ever multiplied by that row's zeros, so the inner loops need no mask. vectors: every
// row is aligned to 16 bytes and a multiple of 16 bytes long.
template <typename T, int kRows, int kDim, int kStride, int kThreads>
__device__ inline void load_rows(T* tile, const T* head, int64_t stride, int dim, bool vectors, const bool* mask,
                                 int first, int count) {
  const int real_rows = count - first;
  if (vectors) {
    constexpr int kElements = 16 / sizeof(T), kVectors = kDim / kElements, kPass = kThreads / kVectors;
    const int column = threadIdx.x % kVectors * kElements;
    int row = threadIdx.x / kVectors;
    const T* from = head + static_cast<int64_t>(first + row) * stride + column;
    if (mask == nullptr && real_rows >= kRows && dim == kDim) {  // the usual case needs no check per row
      static_assert(kRows % kPass == 0);
#pragma unroll
      for (int pass = 0; pass < kRows / kPass; ++pass, from += kPass * stride) {
        copy_async(tile + (row + pass * kPass) * kStride + column, from, true);
      }
      return;
    }
#pragma unroll 2
    for (; row < kRows; row += kPass, from += kPass * stride) {
      const bool real = row < real_rows && column < dim && (mask == nullptr || mask[first + row]);
      copy_async(tile + row * kStride + column, real ? from : head, real);
    }
  } else {
#pragma unroll 1
    for (int i = threadIdx.x; i < kRows * kDim; i += kThreads) {
      const int row = i / kDim, column = i % kDim;
      const bool real = row < real_rows && column < dim && (mask == nullptr || mask[first + row]);
      tile[row * kStride + column] = real ? head[static_cast<int64_t>(first + row) * stride + column] : T(0.0f);
    }
  }
}

__device__ inline void store_pair(float* out, float x, float y) { *reinterpret_cast<float2*>(out) = make_float2(x, y); }

template <typename T>
__device__ inline void store_pair(T* out, float x, float y) {
  *reinterpret_cast<uint32_t*>(out) = pack(x, y, T());
}

// Writes scale * sums to a warp's 16 rows from `first` on, and zeros to masked rows.
template <typename T, int kColumnTiles>
__device__ inline void store_rows(void* out, int head, int first, int count, int dim, const bool* mask,
                                  const Accumulator (&sums)[kColumnTiles][2], float scale) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + half * 8 + lane / 4;
    if (row >= count) continue;
    const float factor = mask == nullptr || mask[row] ? scale : 0.0f;
    T* to = static_cast<T*>(out) + (static_cast<int64_t>(head) * count + row) * dim;
#pragma unroll
    for (int half_tile = 0; half_tile < kColumnTiles * 2; ++half_tile) {
      const int column = half_tile * 8 + lane % 4 * 2;
      const Accumulator& sum = sums[half_tile / 2][half_tile % 2];
      const float x = factor != 0 ? factor * sum.x[2 * half] : 0.0f,
                  y = factor != 0 ? factor * sum.x[2 * half + 1] : 0.0f;
      if (dim % 2 == 0 && column < dim) {
        store_pair(to + column, x, y);
      } else {
        if (column < dim) to[column] = T(x);
        if (column + 1 < dim) to[column + 1] = T(y);
      }
    }
  }
}

}  // namespace yoso::cuda
