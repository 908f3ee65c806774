// The sampled gradient, target by target: every source of a target's buckets gives one product and one weighted row.
#pragma once

#include "lookup_kernels.h"

namespace yoso {
namespace {

// Both parts of a row have kSlices slices of 16 columns.
template <typename T, int kSlices, bool kToLeft>
void pair_slices(const PairedRows<T>& args) {
  using V = Simd<T>;
  constexpr int64_t kDim = kSlices * kLanes;
  visit_targets(args.lookup, [&](int64_t target, const int32_t* sources, int64_t count) {
    T *to_right = args.to_right + target * kDim, *to_left = args.to_left + target * kDim;
    typename V::Vec probe[kSlices], right[kSlices], left[kSlices];
#pragma GCC unroll 8
    for (int c = 0; c < kSlices; ++c) {
      probe[c] = V::load(args.targets + target * 2 * kDim + c * kLanes) * args.scale;
      right[c] = V::load(to_right + c * kLanes);
      if constexpr (kToLeft) left[c] = V::load(to_left + c * kLanes);
    }
    for (int64_t s = 0; s < count; ++s) {
      prefetch_row(args.sources + sources[s + kAhead] * 2 * kDim, 2 * kDim);
      const T* row = args.sources + sources[s] * 2 * kDim;
      typename V::Vec products{};
#pragma GCC unroll 8
      for (int c = 0; c < kSlices; ++c) {
        const typename V::Vec column = V::load(row + c * kLanes);
        products += probe[c] * column;
        if constexpr (kToLeft) left[c] += column;
      }
      const T weight = horizontal_sum(products);
#pragma GCC unroll 8
      for (int c = 0; c < kSlices; ++c) right[c] += V::load(row + kDim + c * kLanes) * weight;
    }
#pragma GCC unroll 8
    for (int c = 0; c < kSlices; ++c) {
      V::store(to_right + c * kLanes, right[c]);
      if constexpr (kToLeft) V::store(to_left + c * kLanes, left[c]);
    }
  });
}

template <typename T>
inline T dot(const T* a, const T* b, int64_t dim) {
  typename Simd<T>::Vec products{};
  for (int64_t c = 0; c < dim; c += kLanes) products += Simd<T>::load(a + c) * Simd<T>::load(b + c);
  return horizontal_sum(products);
}

template <typename T>
inline void add_scaled(T* to, const T* from, T by, int64_t dim) {
  for (int64_t c = 0; c < dim; c += kLanes) {
    Simd<T>::store(to + c, Simd<T>::load(to + c) + Simd<T>::load(from + c) * by);
  }
}

template <typename T>
void pair_any(const PairedRows<T>& args) {
  const int64_t size = args.left_dim + args.dim;
  visit_targets(args.lookup, [&](int64_t target, const int32_t* sources, int64_t count) {
    for (int64_t s = 0; s < count; ++s) {
      const T* row = args.sources + sources[s] * size;
      const T weight = dot(args.targets + target * size, row, args.left_dim) * args.scale;
      add_scaled(args.to_right + target * args.dim, row + args.left_dim, weight, args.dim);
      if (args.to_left) add_scaled(args.to_left + target * args.left_dim, row, T{1}, args.left_dim);
    }
  });
}

template <typename T, int kSlices>
void pair_known(const PairedRows<T>& args) {
  args.to_left ? pair_slices<T, kSlices, true>(args) : pair_slices<T, kSlices, false>(args);
}

template <typename T>
void pair_rows(const PairedRows<T>& args) {
  switch (args.left_dim == args.dim ? args.dim / kLanes : 0) {
    case 2:
      return pair_known<T, 2>(args);
    case 4:
      return pair_known<T, 4>(args);
    case 8:
      return pair_known<T, 8>(args);
    default:
      return pair_any(args);
  }
}

}  // namespace
}  // namespace yoso
