// Vectors of 16 SIMD lanes, with the compiler's vector extensions, and operations on padded rows. Compiled once per
// instruction set, so everything is in an unnamed namespace (see all_kernels.h).
#pragma once

#include "../kernel_interface.h"

namespace yoso {
namespace {

template <typename T>
struct Simd {
  typedef T Vec __attribute__((vector_size(kLanes * sizeof(T))));
  typedef T Unaligned __attribute__((vector_size(kLanes * sizeof(T)), aligned(sizeof(T)), may_alias));

  static inline Vec load(const T* from) { return *reinterpret_cast<const Unaligned*>(from); }
  static inline void store(T* to, Vec x) { *reinterpret_cast<Unaligned*>(to) = x; }
  static inline Vec splat(T x) { return x - Vec{}; }
};

// Adds to each lane the lane kWidth further, wrapping around: one step of a horizontal sum.
template <int kWidth, typename Vec, typename Index>
inline Vec add_rotated(Vec x) {
  constexpr auto kFrom = [](int lane) { return (lane + kWidth) % kLanes; };
  constexpr Index kLaneOrder = {kFrom(0), kFrom(1), kFrom(2),  kFrom(3),  kFrom(4),  kFrom(5),  kFrom(6),  kFrom(7),
                                kFrom(8), kFrom(9), kFrom(10), kFrom(11), kFrom(12), kFrom(13), kFrom(14), kFrom(15)};
  return x + __builtin_shuffle(x, kLaneOrder);
}

inline float horizontal_sum(Simd<float>::Vec x) {
  using V = Simd<float>::Vec;
  using I = Simd<int32_t>::Vec;
  return add_rotated<1, V, I>(add_rotated<2, V, I>(add_rotated<4, V, I>(add_rotated<8, V, I>(x))))[0];
}

inline double horizontal_sum(Simd<double>::Vec x) {
  using V = Simd<double>::Vec;
  using I = Simd<int64_t>::Vec;
  return add_rotated<1, V, I>(add_rotated<2, V, I>(add_rotated<4, V, I>(add_rotated<8, V, I>(x))))[0];
}

// Rows whose length dim is a multiple of 16.
template <typename T>
inline T dot(const T* a, const T* b, int64_t dim) {
  typename Simd<T>::Vec products{};
  for (int64_t c = 0; c < dim; c += kLanes) products += Simd<T>::load(a + c) * Simd<T>::load(b + c);
  return horizontal_sum(products);
}

template <typename T>
inline void add_scaled(T* to, const T* from, T scale, int64_t dim) {
  for (int64_t c = 0; c < dim; c += kLanes) {
    Simd<T>::store(to + c, Simd<T>::load(to + c) + Simd<T>::load(from + c) * scale);
  }
}

}  // namespace
}  // namespace yoso
