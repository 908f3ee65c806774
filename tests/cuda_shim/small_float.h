// A 16-bit floating-point type and a pair of it. Format converts between its bits and float.
#pragma once

#include <bit>
#include <cstdint>

#include "types.h"

namespace cuda_shim {

template <typename Format>
struct SmallFloat {
  uint16_t bits;

  SmallFloat() = default;  // uninitialised, like CUDA's types, which shared memory requires
  SmallFloat(float value) : bits(Format::narrow(value)) {}
  SmallFloat(double value) : SmallFloat(static_cast<float>(value)) {}
  SmallFloat(int value) : SmallFloat(static_cast<float>(value)) {}
  operator float() const { return Format::widen(bits); }

  static SmallFloat from_bits(uint16_t bits) {
    SmallFloat value;
    value.bits = bits;
    return value;
  }
  SmallFloat operator-() const { return from_bits(bits ^ 0x8000); }
  SmallFloat& operator+=(SmallFloat other) { return *this = *this + other; }
  SmallFloat& operator-=(SmallFloat other) { return *this = *this - other; }
  SmallFloat& operator*=(SmallFloat other) { return *this = *this * other; }

  friend SmallFloat operator+(SmallFloat a, SmallFloat b) { return float{a} + float{b}; }
  friend SmallFloat operator-(SmallFloat a, SmallFloat b) { return float{a} - float{b}; }
  friend SmallFloat operator*(SmallFloat a, SmallFloat b) { return float{a} * float{b}; }
  friend SmallFloat operator/(SmallFloat a, SmallFloat b) { return float{a} / float{b}; }
};

template <typename T>
struct alignas(4) SmallFloat2 {
  T x, y;
};

#define CUDA_SHIM_HALF_FUNCTION(name, expression)                       \
  template <typename Format>                                            \
  SmallFloat<Format> name(SmallFloat<Format> a, SmallFloat<Format> b) { \
    return expression;                                                  \
  }                                                                     \
  template <typename T>                                                 \
  SmallFloat2<T> name##2(SmallFloat2<T> a, SmallFloat2<T> b) {          \
    return {name(a.x, b.x), name(a.y, b.y)};                            \
  }
CUDA_SHIM_HALF_FUNCTION(__hadd, a + b)
CUDA_SHIM_HALF_FUNCTION(__hsub, a - b)
CUDA_SHIM_HALF_FUNCTION(__hmul, a* b)
CUDA_SHIM_HALF_FUNCTION(__hmax, (b != b || a > b ? a : b))  // of a number and a NaN, the number
#undef CUDA_SHIM_HALF_FUNCTION

template <typename T>
SmallFloat2<T> __habs2(SmallFloat2<T> pair) {
  return {T::from_bits(pair.x.bits & 0x7fff), T::from_bits(pair.y.bits & 0x7fff)};
}

template <typename T>
float __low2float(SmallFloat2<T> pair) {
  return pair.x;
}
template <typename T>
float __high2float(SmallFloat2<T> pair) {
  return pair.y;
}

}  // namespace cuda_shim
