// The collision probability (1 - arccos(x) / pi) ** tau and its derivative, as plain loops that the compiler
// vectorises.
#pragma once

#include "../kernel_interface.h"

namespace yoso {
namespace {

// x ** kTau by repeated squaring, unrolled at compile time.
template <int kTau, typename T>
inline T power(T x) {
  if constexpr (kTau == 0) {
    return T{1};
  } else if constexpr (kTau % 2 == 1) {
    return x * power<kTau - 1>(x);
  } else {
    const T root = power<kTau / 2>(x);
    return root * root;
  }
}

// 1 - arccos(x) / pi. For x >= 0, arccos(x) = sqrt(1 - x) p(x) with the polynomial of Abramowitz & Stegun 4.4.46
// (error below 2e-8), and arccos(-x) = pi - arccos(x). NaN stays NaN.
inline float one_minus_angle(float x) {
  constexpr float kInversePi = 0.31830988618379067f;
  float a = __builtin_fabsf(x);
  a = a > 1.0f ? 1.0f : a;
  float p = -0.0012624911f;
  p = p * a + 0.0066700901f;
  p = p * a - 0.0170881256f;
  p = p * a + 0.0308918810f;
  p = p * a - 0.0501743046f;
  p = p * a + 0.0889789874f;
  p = p * a - 0.2145988016f;
  p = p * a + 1.5707963050f;
  const float angle = __builtin_sqrtf(1.0f - a) * p * kInversePi;
  return x < 0.0f ? angle : 1.0f - angle;
}

inline double one_minus_angle(double x) {
  x = x > 1.0 ? 1.0 : (x < -1.0 ? -1.0 : x);
  return 1.0 - __builtin_acos(x) / 3.14159265358979323846;
}

// d/dx (1 - arccos(x) / pi) = 1 / (pi sqrt(1 - x^2)). The square root is the sine of the angle, at least kMinSine.
template <typename T>
inline T angle_slope(T x) {
  constexpr T kInversePi = T(0.318309886183790671537767526745), kMinSine = T(1e-3);
  const T square = (T{1} - x) * (T{1} + x);
  const T min_square = kMinSine * kMinSine;
  const T clamped = square < min_square ? min_square : square;
  if constexpr (sizeof(T) == sizeof(float)) {
    return kInversePi / __builtin_sqrtf(clamped);
  } else {
    return kInversePi / __builtin_sqrt(clamped);
  }
}

template <int kTau, typename T>
void collision_power(T* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = power<kTau, T>(one_minus_angle(x[i]));
}

// d/dx p(x) ** tau = tau p(x) ** (tau - 1) p'(x), with p(x) = 1 - arccos(x) / pi.
template <int kTau, typename T>
void derivative_power(T* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    x[i] = T{kTau} * power<kTau - 1, T>(one_minus_angle(x[i])) * angle_slope(x[i]);
  }
}

// The loops for tau = 1 to 16, so that each has its exponent as a compile-time constant.
#define YOSO_FOR_EACH_TAU(loop)                                                                          \
  {loop<1, T>, loop<2, T>,  loop<3, T>,  loop<4, T>,  loop<5, T>,  loop<6, T>,  loop<7, T>,  loop<8, T>, \
   loop<9, T>, loop<10, T>, loop<11, T>, loop<12, T>, loop<13, T>, loop<14, T>, loop<15, T>, loop<16, T>}

template <typename T>
void collision(T* x, int64_t count, int64_t hash_code_len) {
  static constexpr void (*kLoops[])(T*, int64_t) = YOSO_FOR_EACH_TAU(collision_power);
  kLoops[hash_code_len - 1](x, count);
}

template <typename T>
void derivative(T* x, int64_t count, int64_t hash_code_len) {
  static constexpr void (*kLoops[])(T*, int64_t) = YOSO_FOR_EACH_TAU(derivative_power);
  kLoops[hash_code_len - 1](x, count);
}

#undef YOSO_FOR_EACH_TAU

}  // namespace
}  // namespace yoso
