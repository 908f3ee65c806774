// (1 - arccos(x) / pi) ** tau, as plain loops that the compiler vectorises.
#pragma once

#include "kernels.h"

namespace yoso {
namespace {

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

template <int kTau, typename T>
void collision_power(T* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = power<kTau, T>(one_minus_angle(x[i]));
}

template <typename T>
void collision(T* x, int64_t count, int64_t hash_code_len) {
  using Power = void (*)(T*, int64_t);
  static const Power kPowers[] = {
      collision_power<1, T>,  collision_power<2, T>,  collision_power<3, T>,  collision_power<4, T>,
      collision_power<5, T>,  collision_power<6, T>,  collision_power<7, T>,  collision_power<8, T>,
      collision_power<9, T>,  collision_power<10, T>, collision_power<11, T>, collision_power<12, T>,
      collision_power<13, T>, collision_power<14, T>, collision_power<15, T>, collision_power<16, T>,
  };
  kPowers[hash_code_len - 1](x, count);
}

}  // namespace
}  // namespace yoso
