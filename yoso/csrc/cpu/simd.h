// Sixteen lanes as one value, by the compiler's vector extensions. Included by files that are compiled once an
// instruction set: all is in an unnamed namespace, so that the linker never mixes two instruction sets.
#pragma once

#include "kernels.h"

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

template <int kWidth, typename Vec, typename Index>
inline Vec add_half(Vec x) {
  constexpr auto kFrom = [](int lane) { return (lane + kWidth) % kLanes; };
  constexpr Index kPick = {kFrom(0), kFrom(1), kFrom(2),  kFrom(3),  kFrom(4),  kFrom(5),  kFrom(6),  kFrom(7),
                           kFrom(8), kFrom(9), kFrom(10), kFrom(11), kFrom(12), kFrom(13), kFrom(14), kFrom(15)};
  return x + __builtin_shuffle(x, kPick);
}

inline float horizontal_sum(Simd<float>::Vec x) {
  using V = Simd<float>::Vec;
  using I = Simd<int32_t>::Vec;
  return add_half<1, V, I>(add_half<2, V, I>(add_half<4, V, I>(add_half<8, V, I>(x))))[0];
}

inline double horizontal_sum(Simd<double>::Vec x) {
  using V = Simd<double>::Vec;
  using I = Simd<int64_t>::Vec;
  return add_half<1, V, I>(add_half<2, V, I>(add_half<4, V, I>(add_half<8, V, I>(x))))[0];
}

}  // namespace
}  // namespace yoso
