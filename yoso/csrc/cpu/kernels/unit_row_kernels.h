// Divides rows by sqrt(|x|^2 + floor^2) (forward), and the gradient of that (backward). A floor of 0 scales rows to
// length 1. Plain loops that the compiler vectorises.
#pragma once

#include "../kernel_interface.h"

namespace yoso {
namespace {

// Rows of any length. Sixteen partial sums, so that the compiler can vectorise the loop without reordering a sum.
template <typename T>
inline T dot_rows(const T* a, const T* b, int64_t dim) {
  T lanes[kLanes] = {};
  int64_t c = 0;
  for (; c + kLanes <= dim; c += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += a[c + lane] * b[c + lane];
  }
  T sum = 0;
  for (; c < dim; ++c) sum += a[c] * b[c];
  for (int width = kLanes / 2; width > 0; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return sum + lanes[0];
}

inline float square_root(float x) { return __builtin_sqrtf(x); }
inline double square_root(double x) { return __builtin_sqrt(x); }

// Sums of squares in this range are exact to rounding: no square that matters has underflowed, and none overflowed.
template <typename T>
constexpr T kSmallestSquare = T(0x1p-80);
template <typename T>
constexpr T kLargestSquare = T(0x1p+120);
template <>
inline constexpr double kSmallestSquare<double> = 0x1p-900;
template <>
inline constexpr double kLargestSquare<double> = 0x1p+1000;

// A power of two that brings the largest magnitude of a row and its floor near 1; 1 where all are zero or one is
// infinite.
template <typename T>
inline T scale_of(const T* x, int64_t dim, T floor) {
  T largest = floor < 0 ? -floor : floor;
  for (int64_t c = 0; c < dim; ++c) {
    const T magnitude = x[c] < 0 ? -x[c] : x[c];
    if (magnitude > largest) largest = magnitude;
  }
  if (largest == 0 || __builtin_isinf(largest)) return T{1};
  // The power of two and its reciprocal must both be normal numbers.
  constexpr int kMostExponent = sizeof(T) == sizeof(float) ? 126 : 1022;
  int exponent;
  __builtin_frexp(static_cast<double>(largest), &exponent);
  exponent = exponent > kMostExponent ? kMostExponent : (exponent < -kMostExponent ? -kMostExponent : exponent);
  return static_cast<T>(__builtin_ldexp(1.0, -exponent));
}

template <typename T>
inline T dot_scaled_row(const T* x, T scale, const T* other, T other_scale, int64_t dim) {
  T sum = 0;
  for (int64_t c = 0; c < dim; ++c) sum += (x[c] * scale) * (other[c] * other_scale);
  return sum;
}

// The length of a row x of any magnitude, with its floor: `square` is the sum of squares of x * scale and floor *
// scale. The scale of ordinary rows is 1.
template <typename T>
struct RowLength {
  T scale, square;

  RowLength(const T* x, int64_t dim, T floor) : scale(1), square(dot_rows(x, x, dim) + floor * floor) {
    if (kSmallestSquare<T> <= square && square <= kLargestSquare<T>) return;
    scale = scale_of(x, dim, floor);
    square = dot_scaled_row(x, scale, x, scale, dim) + (floor * scale) * (floor * scale);
  }
};

template <typename T>
void unit_rows(const RowBlock<T>& rows) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const T* x = rows.x + i * rows.x_stride;
    T* out = rows.out + i * rows.out_stride;
    const RowLength<T> length(x, rows.dim, rows.floor);
    // Division, unlike multiplication by the reciprocal, makes a row of one entry exactly 1 or -1.
    const T norm = length.square == 0 ? T{1} : square_root(length.square);
    for (int64_t c = 0; c < rows.dim; ++c) out[c] = x[c] * length.scale / norm;
  }
}

// With n = sqrt(|x|^2 + floor^2) and y = x / n, the gradient of x is (grad - y (y . grad)) / n, and a row's share of
// the gradient of floor is -(y . grad) floor / n^2. Both are zero where n is.
template <typename T>
void unit_rows_backward(const RowBlock<T>& rows) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const T *x = rows.x + i * rows.x_stride, *grad = rows.grad + i * rows.grad_stride;
    T* out = rows.out + i * rows.out_stride;
    const RowLength<T> length(x, rows.dim, rows.floor);
    const T square = length.square, scale = length.scale;
    const T along = scale == 1 ? dot_rows(x, grad, rows.dim) : dot_scaled_row(x, scale, grad, T{1}, rows.dim);
    const T inverse = square == 0 ? T{0} : T{1} / square_root(square);
    const T projection = square == 0 ? T{0} : along / square;
    if (rows.grad_floor) rows.grad_floor[i] = -projection * (rows.floor * scale) * inverse * scale;
    for (int64_t c = 0; c < rows.dim; ++c) out[c] = (grad[c] - x[c] * scale * projection) * inverse * scale;
  }
}

}  // namespace
}  // namespace yoso
