// The two products of expectation_kernel.cuh: own rows with other rows, and weights with other rows.
#pragma once

#include "expectation_power.cuh"

namespace yoso::cuda {

// Rows of the own side as fragments: kept in registers, or read again from shared memory where there are too many.
template <typename T, int kDim, int kBlocks, int kStride, bool kInRegisters>
struct OwnRows {
  typename Product<T>::A kept[kInRegisters ? kBlocks : 1][kInRegisters ? kDim / 16 : 1];
  const T* tile;

  __device__ explicit OwnRows(const T* warp_tile) : tile(warp_tile) {
    if constexpr (kInRegisters) {
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
        for (int k = 0; k < kDim / 16; ++k) kept[block][k] = load(block, k);
      }
    }
  }

  __device__ typename Product<T>::A load(int block, int k) const {
    return Product<T>::load_a(tile + block * 16 * kStride + k * 16, kStride);
  }

  __device__ typename Product<T>::A at(int block, int k) const {
    if constexpr (kInRegisters) {
      return kept[block][k];
    } else {
      return load(block, k);
    }
  }
};

// products[block][rows of the other tile] = own . other, for kGroups groups of 16 other rows,
// `other` being where the lane starts.
template <typename T, int kDim, int kBlocks, int kGroups, int kStride, typename Own>
__device__ inline void multiply_rows(Accumulator (&products)[kBlocks * kGroups][2], const Own& own, const T* other) {
  for_each(products, [](float& x, int) { x = 0; });
#pragma unroll
  for (int k = 0; k < kDim / 16; ++k) {
    typename Product<T>::A a[kBlocks];
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) a[block] = own.at(block, k);
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      const auto b = Product<T>::load_b_of_rows_from(other + group * 16 * kStride + k * 16, kStride);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) Product<T>::add(products[block * kGroups + group], a[block], b);
    }
  }
}

// sums[block] += weights[block] other.
template <typename T, int kDim, int kBlocks, int kGroups, int kStride>
__device__ inline void add_weighted(Accumulator (&sums)[kBlocks][kDim / 16][2],
                                    const Accumulator (&weights)[kBlocks * kGroups][2], const T* other) {
#pragma unroll
  for (int group = 0; group < kGroups; ++group) {
    typename Product<T>::A a[kBlocks];
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) a[block] = Product<T>::a_of(weights[block * kGroups + group]);
#pragma unroll
    for (int column = 0; column < kDim / 16; ++column) {
      const auto b = Product<T>::load_b_of_columns_from(other + group * 16 * kStride + column * 16, kStride);
#pragma unroll
      for (int block = 0; block < kBlocks; ++block) Product<T>::add(sums[block][column], a[block], b);
    }
  }
}

}  // namespace yoso::cuda
