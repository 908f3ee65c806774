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

template <typename T>
inline T horizontal_sum(typename Simd<T>::Vec x) {
  T lanes[kLanes];
  Simd<T>::store(lanes, x);
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace
}  // namespace yoso
