// Powers of all elements of accumulators, with tau as a compile-time constant for the shapes that ask for it.
#pragma once

#include "../common/mma.cuh"

namespace yoso::cuda {

template <int kCount, typename F>
__device__ inline void for_each(Accumulator (&x)[kCount][2], F f) {
#pragma unroll
  for (int i = 0; i < kCount * 8; ++i) f(x[i / 8][i / 4 % 2].x[i % 4], i);
}

template <int kCount>
__device__ inline float& at(Accumulator (&x)[kCount][2], int i) {
  return x[i / 8][i / 4 % 2].x[i % 4];
}

// |x| ** kExponent.
template <int kExponent>
__device__ inline float power(float x) {
  if constexpr (kExponent == 1) {
    return fabsf(x);
  } else if constexpr (kExponent == 15) {
    return power<3>(power<5>(x));
  } else if constexpr (kExponent % 2 == 0) {
    const float root = power<kExponent / 2>(x);
    return root * root;
  } else {
    return power<kExponent - 1>(x) * fabsf(x);
  }
}

// A tau that is known at compile time.
template <int kTau>
struct ConstantTau {};
constexpr int kMaxTau = 16;

// Calls f(ConstantTau<tau>(), false) for kFirst <= tau <= kLast, by binary search.
template <int kFirst = 1, int kLast = kMaxTau, typename F>
__device__ __forceinline__ void with_constant_tau(int tau, F f) {
  constexpr int kMiddle = (kFirst + kLast) / 2;
  if constexpr (kFirst == kLast) {
    f(ConstantTau<kFirst>(), false);
  } else if (tau <= kMiddle) {
    with_constant_tau<kFirst, kMiddle>(tau, f);
  } else {
    with_constant_tau<kMiddle + 1, kLast>(tau, f);
  }
}

// Calls f(tau, exact). With kConstant, tau is a ConstantTau unless the exact gradient is wanted, so that loops inside f
// need neither branches nor register moves between the multiplications of a power.
template <bool kConstant, bool kGradX, typename F>
__device__ __forceinline__ void with_tau(int tau, bool exact, F f) {
  if constexpr (!kConstant) {
    f(tau, exact);
  } else if (kGradX && exact) {
    f(tau, true);
  } else {
    with_constant_tau(tau, f);
  }
}

// x = |x| ** kExponent.
template <int kExponent, int kCount>
__device__ inline void raise(Accumulator (&x)[kCount][2], ConstantTau<kExponent>) {
  for_each(x, [](float& y, int) { y = power<kExponent>(y); });
}

// power, which is x on entry, becomes x ** exponent for x >= 0; it is unchanged for the exponent 0. All elements are
// multiplied together, so that there is one branch per bit of the exponent.
template <int kCount>
__device__ inline void raise(Accumulator (&power)[kCount][2], Accumulator (&x)[kCount][2], int exponent) {
#pragma unroll 1
  for (int bit = 30 - __clz(exponent); bit >= 0; --bit) {
    for_each(power, [](float& y, int) { y *= y; });
    if (exponent >> bit & 1) for_each(power, [&](float& y, int i) { y *= at(x, i); });
  }
}

// x = |x| ** exponent.
template <int kCount>
__device__ inline void raise(Accumulator (&x)[kCount][2], int exponent) {
  Accumulator power[kCount][2];
  for_each(x, [](float& y, int) { y = fabsf(y); });
  for_each(power, [&](float& y, int i) { y = at(x, i); });
  raise(power, x, exponent);
  for_each(x, [&](float& y, int i) { y = at(power, i); });
}

}  // namespace yoso::cuda
