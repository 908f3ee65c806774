// (1 - arccos(x) / pi) ** tau and its derivative, for accumulators that hold cosines. This takes 12 instructions per
// pair for tau = 12 and bfloat16 and bounds the kernel's time at d = 64, ahead of the matrix products, so every
// instruction counts.
#pragma once

#include <type_traits>

#include "expectation_power.cuh"

namespace yoso::cuda {

// Weights are scaled by kBase ** tau: in float16, (1/2) ** 16 would be subnormal, and 1.875 ** 16 = 23283 is finite.
template <typename T, bool kSum>
constexpr float kBase = 1.0f;
template <>
constexpr float kBase<__half, true> = 1.875f;

// arccos(|x|) / pi = sqrt(u) p, where u = 1 - |x|, clamped because rounding may bring |x| above 1, and p is a smooth
// minimax fit. The error of sqrt(u) p is 3e-8 for float32, 2e-6 for float16 and 1.6e-5 for bfloat16. In bfloat16 that
// changes weights by a relative 2^-10.7 at worst, at tau = 16: a third of their rounding error. p is NaN if x is.
template <typename T>
struct Arccosine {
  float u, p;

  // p is a polynomial in x^2 + shift, which needs no |x|, and u; only float16 needs the quartic term. p is multiplied
  // by `scale`.
  __device__ Arccosine(float x, float scale) {
    constexpr bool kHalf = std::is_same_v<T, __half>;
    constexpr float kShift = kHalf ? 5.821737255f : 10.660697985f, kSlope = kHalf ? 0.011712308621f : 0.006346245459f,
                    kConstant = kHalf ? -0.018871631632f : 0.017764172795f, kQuartic = 0.002944406967f,
                    kLast = kHalf ? 0.441883983f : 0.242949950783f;
    u = __saturatef(1.0f - fabsf(x));
    const float square = x * x + kShift;
    float factor = scale * kSlope * u + scale * kConstant;
    if constexpr (kHalf) factor = scale * kQuartic * square + factor;
    p = factor * square + scale * kLast;
  }
};

template <>
struct Arccosine<float> {
  float u, p;

  __device__ Arccosine(float x, float scale) {
    constexpr float kFit[] = {0.4501585640f, 0.0374990177f,  0.0085825269f, 0.0018925856f,
                              0.0022030260f, -0.0011670199f, 0.0008312717f};
    u = max_or_nan(1.0f - fabsf(x), 0.0f);
    p = scale * kFit[6];
#pragma unroll
    for (int i = 5; i >= 0; --i) p = p * u + scale * kFit[i];
  }
};

// kBase (1 - arccos(x) / pi) up to its sign: arccos(|x|) / pi for negative x, else 1 minus that.
template <typename T, bool kSum>
__device__ inline float one_minus_angle(float x, const Arccosine<T>& angle) {
  const float whole = x >= 0 ? kBase<T, kSum> : 0.0f;
  return whole - approximate_sqrt(angle.u) * angle.p;
}

// 1 / sin(arccos(x)), limited to its value at the angle 1e-3. (1 - x) (1 + x) = u (2 - u).
__device__ inline float inverse_sine(float u) { return approximate_rsqrt(max_or_nan(u * (2.0f - u), 1e-6f)); }

// Cosines become weights.
template <typename T, bool kSum, int kCount, typename Tau>
__device__ inline void to_weights(Accumulator (&x)[kCount][2], Tau tau) {
  for_each(x, [](float& y, int) { y = one_minus_angle<T, kSum>(y, Arccosine<T>(y, kBase<T, kSum>)); });
  raise(x, tau);
}

// Cosines become weights, and `products` is multiplied by the surrogate's dW / dcosine without its factor tau / 2,
// which is the weight.
template <typename T, bool kSum, int kCount, typename Tau>
__device__ inline void to_weights_and_surrogates(Accumulator (&x)[kCount][2], Accumulator (&products)[kCount][2],
                                                 Tau tau) {
  to_weights<T, kSum>(x, tau);
  for_each(products, [&](float& y, int i) { y *= at(x, i); });
}

// The same with the exact dW / dcosine, without its factor tau / pi.
template <typename T, bool kSum, int kCount>
__device__ inline void to_weights_and_derivatives(Accumulator (&x)[kCount][2], Accumulator (&products)[kCount][2],
                                                  int tau) {
  for_each(x, [&](float& y, int i) {
    const Arccosine<T> angle(y, kBase<T, kSum>);
    at(products, i) *= inverse_sine(angle.u);
    y = fabsf(one_minus_angle<T, kSum>(y, angle));
  });
  Accumulator power[kCount][2];
  for_each(power, [&](float& y, int i) { y = tau == 1 ? 1.0f : at(x, i); });
  raise(power, x, tau - 1);
  for_each(x, [&](float& y, int i) {
    at(products, i) *= at(power, i);
    y *= at(power, i);
  });
}

template <typename T, bool kSum, int kCount, int kTau>
__device__ inline void to_weights_and_slopes(Accumulator (&x)[kCount][2], Accumulator (&products)[kCount][2],
                                             ConstantTau<kTau> tau, bool /*exact*/) {
  to_weights_and_surrogates<T, kSum>(x, products, tau);
}

template <typename T, bool kSum, int kCount>
__device__ inline void to_weights_and_slopes(Accumulator (&x)[kCount][2], Accumulator (&products)[kCount][2], int tau,
                                             bool exact) {
  if (exact) {
    to_weights_and_derivatives<T, kSum>(x, products, tau);
  } else {
    to_weights_and_surrogates<T, kSum>(x, products, tau);
  }
}

}  // namespace yoso::cuda
