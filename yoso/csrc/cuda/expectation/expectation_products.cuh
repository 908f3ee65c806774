// The two matrix products of expectation_kernel.cuh: own rows times other rows, and weights times other rows.
#pragma once

#include "expectation_power.cuh"

namespace yoso::cuda {

// Own rows as fragments, kept in registers or, where there are too few registers, read from shared memory each time.
template <typename T, int kDim, int kRowFragments, int kStride, bool kInRegisters>
struct OwnRows {
  typename Product<T>::A kept[kInRegisters ? kRowFragments : 1][kInRegisters ? kDim / 16 : 1];
  const T* tile;

  __device__ explicit OwnRows(const T* warp_tile) : tile(warp_tile) {
    if constexpr (kInRegisters) {
#pragma unroll
      for (int fragment = 0; fragment < kRowFragments; ++fragment) {
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) kept[fragment][k] = load(fragment, k);
      }
    }
  }

  __device__ typename Product<T>::A load(int fragment, int k) const {
    return Product<T>::load_a(tile + fragment * 16 * kStride + k * 16, kStride);
  }

  __device__ typename Product<T>::A at(int fragment, int k) const {
    if constexpr (kInRegisters) {
      return kept[fragment][k];
    } else {
      return load(fragment, k);
    }
  }
};

// products = own rows times the transpose of other rows, for kGroups groups of 16 other rows. `other` includes the
// lane's b_transposed_lane_offset. Group g of row fragment f is at [f * kGroups + g].
template <typename T, int kDim, int kRowFragments, int kGroups, int kStride, typename Own>
__device__ inline void multiply_rows(Accumulator (&products)[kRowFragments * kGroups][2], const Own& own,
                                     const T* other) {
  for_each(products, [](float& x, int) { x = 0; });
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    typename Product<T>::A a[kRowFragments];
#pragma unroll
    for (int fragment = 0; fragment < kRowFragments; ++fragment) a[fragment] = own.at(fragment, k);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const auto b = Product<T>::load_b_transposed_at(other + group * 16 * kStride + k * 16, kStride);
#pragma unroll
      for (int fragment = 0; fragment < kRowFragments; ++fragment) {
        Product<T>::multiply_add(products[fragment * kGroups + group], a[fragment], b);
      }
    }
  }
}

// sums += weights times other rows, with weights as multiply_rows orders them. `other` includes the lane's
// b_lane_offset.
template <typename T, int kDim, int kRowFragments, int kGroups, int kStride>
__device__ inline void add_weighted(Accumulator (&sums)[kRowFragments][kDim / 16][2],
                                    const Accumulator (&weights)[kRowFragments * kGroups][2], const T* other) {
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    typename Product<T>::A a[kRowFragments];
#pragma unroll
    for (int fragment = 0; fragment < kRowFragments; ++fragment) {
      a[fragment] = Product<T>::to_a(weights[fragment * kGroups + group]);
    }
#pragma unroll
    for (int column = 0; column < kDim / 16; ++column) {
      const auto b = Product<T>::load_b_at(other + group * 16 * kStride + column * 16, kStride);
#pragma unroll
      for (int fragment = 0; fragment < kRowFragments; ++fragment) {
        Product<T>::multiply_add(sums[fragment][column], a[fragment], b);
      }
    }
  }
}

}  // namespace yoso::cuda
