// Scales rows to length 1 (forward), and the gradient of that (backward). Plain loops that the compiler vectorises.
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

template <typename T>
void unit_rows(const RowBlock<T>& rows) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const T* x = rows.x + i * rows.x_stride;
    T* out = rows.out + i * rows.out_stride;
    const T square = dot_rows(x, x, rows.dim);
    // Division, unlike multiplication by the reciprocal, makes a row of one entry exactly 1 or -1.
    const T norm = square == 0 ? T{1} : square_root(square);
    for (int64_t c = 0; c < rows.dim; ++c) out[c] = x[c] / norm;
  }
}

// With y = x / |x|, the gradient is (grad - y (y . grad)) / |x|; it is zero for a zero row.
template <typename T>
void unit_rows_backward(const RowBlock<T>& rows) {
  for (int64_t i = 0; i < rows.count; ++i) {
    const T *x = rows.x + i * rows.x_stride, *grad = rows.grad + i * rows.grad_stride;
    T* out = rows.out + i * rows.out_stride;
    const T square = dot_rows(x, x, rows.dim);
    const T scale = square == 0 ? T{0} : T{1} / square_root(square);
    const T projection = square == 0 ? T{0} : dot_rows(x, grad, rows.dim) / square;
    for (int64_t c = 0; c < rows.dim; ++c) out[c] = (grad[c] - x[c] * projection) * scale;
  }
}

}  // namespace
}  // namespace yoso
