// (1 - arccos(x) / pi) ** tau and its derivative on the accumulators of a tile of cosines. With 15 to 20 instructions a
// pair this is the kernel's floor, ahead of the matrix products at d = 64: every instruction here counts.
#pragma once

#include "mma.cuh"

namespace yoso::cuda {

// arccos(1 - u) = sqrt(u) p(u) with p smooth: least-maximum fits of sqrt(u) p(u) / pi on [0, 1], error 1.5e-6 where the
// weights are rounded to 8 or 11 bits and 3e-8 for float32.
template <typename T>
constexpr int kFitDegree = sizeof(T) == 2 ? 4 : 6;

template <typename T>
__device__ constexpr float fit_coefficient(int power) {
  if constexpr (sizeof(T) == 2) {
    constexpr float kFit[] = {0.4501742297f, 0.0372189028f, 0.0099253912f, -0.0004181488f, 0.0030980995f};
    return kFit[power];
  } else {
    constexpr float kFit[] = {0.4501585640f, 0.0374990177f,  0.0085825269f, 0.0018925856f,
                              0.0022030260f, -0.0011670199f, 0.0008312717f};
    return kFit[power];
  }
}

// Weights are kept in units of kBase ** -tau. In float16, (1/2) ** 16 is subnormal; 1.875 ** 16 = 23283 is still
// finite.
template <typename T, bool kSum>
constexpr float kBase = 1.0f;
template <>
constexpr float kBase<__half, true> = 1.875f;

// 1 - |x|, clamped for x beyond 1 by rounding.
__device__ inline float below_one(float x) { return larger_or_nan(1.0f - fabsf(x), 0.0f); }

// kBase (1 - arccos(x) / pi), given u = below_one(x): by symmetry 1/2 + sign(x) (1/2 - arccos(|x|) / pi).
template <typename T, bool kSum>
__device__ inline float one_minus_angle(float x, float u) {
  constexpr float kScale = kBase<T, kSum>;
  float p = kScale * fit_coefficient<T>(kFitDegree<T>);
#pragma unroll
  for (int i = kFitDegree<T> - 1; i >= 0; --i) p = p * u + kScale * fit_coefficient<T>(i);
  const float from_half = 0.5f * kScale - approximate_sqrt(u) * p;
  return 0.5f * kScale + float_of_bits(float_bits(from_half) ^ (float_bits(x) & 0x80000000u));
}

// 1 / sin(arccos(x)), the pole cut off at angle 1e-3. (1 - x) (1 + x) = u (2 - u).
__device__ inline float inverse_sine(float u) { return approximate_rsqrt(larger_or_nan(u * (2.0f - u), 1e-6f)); }

template <int kCount, typename F>
__device__ inline void for_each(Accumulator (&x)[kCount][2], F f) {
#pragma unroll
  for (int i = 0; i < kCount * 8; ++i) f(x[i / 8][i / 4 % 2].x[i % 4], i);
}

template <int kCount>
__device__ inline float& at(Accumulator (&x)[kCount][2], int i) {
  return x[i / 8][i / 4 % 2].x[i % 4];
}

// x ** exponent by squaring, for all elements together, so that the branch on the exponent is paid once.
template <int kCount>
__device__ inline void raise(Accumulator (&x)[kCount][2], int exponent) {
  if (exponent == 0) {
    for_each(x, [](float& y, int) { y = 1; });
    return;
  }
  Accumulator power[kCount][2];
  for_each(power, [&](float& y, int i) { y = at(x, i); });
#pragma unroll 1
  for (int bit = 30 - __clz(exponent); bit >= 0; --bit) {
    for_each(power, [](float& y, int) { y *= y; });
    if (exponent >> bit & 1) for_each(power, [&](float& y, int i) { y *= at(x, i); });
  }
  for_each(x, [&](float& y, int i) { y = at(power, i); });
}

// Cosines become weights.
template <typename T, bool kSum, int kCount>
__device__ inline void to_weights(Accumulator (&x)[kCount][2], int tau) {
  for_each(x, [](float& y, int) { y = one_minus_angle<T, kSum>(y, below_one(y)); });
  raise(x, tau);
}

// Cosines become weights, and `products` is multiplied by dW / dcosine without its factor tau / pi.
template <typename T, bool kSum, int kCount>
__device__ inline void to_weights_and_slopes(Accumulator (&x)[kCount][2], Accumulator (&products)[kCount][2], int tau) {
  Accumulator angles[kCount][2];
  for_each(x, [&](float& y, int i) {
    const float u = below_one(y);
    at(products, i) *= inverse_sine(u);
    at(angles, i) = one_minus_angle<T, kSum>(y, u);
    y = at(angles, i);
  });
  raise(x, tau - 1);
  for_each(x, [&](float& y, int i) {
    at(products, i) *= y;
    y *= at(angles, i);
  });
}

}  // namespace yoso::cuda
