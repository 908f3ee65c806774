// Divides each row of x [batch, heads, length, dim] by sqrt(|x|^2 + floor^2), and the gradient of that. A floor of 0
// scales rows to length 1.
#pragma once

#include "launch.h"

namespace yoso::cuda {

struct UnitRowsParams {
  Rows x;
  Rows grad;           // the gradient of the scaled rows; with null data the kernel scales rows instead
  const float* floor;  // [batch, heads]; null: 0
  float* grad_floor;   // [batch, heads, length], each row's share of the gradient of floor; or null
  void* out;           // contiguous
  int64_t batch, heads, length, dim;
  Dtype dtype;       // of x, and of out if there is grad
  Dtype unit_dtype;  // of the unit rows: of grad or, without it, of out; differs from dtype only if that is float32
};

cudaError_t launch_unit_rows(const UnitRowsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
