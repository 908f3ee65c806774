// unit_rows and its gradient: each row of x [batch, heads, length, dim] scaled to length 1.
#pragma once

#include "launch.h"
#include "rows.h"

namespace yoso::cuda {

struct UnitRowsParams {
  Rows x;
  Rows grad;  // of the output; data null: the rows are scaled and no gradient is taken
  void* out;  // contiguous
  int64_t batch, heads, length, dim;
  Dtype dtype;  // of x, grad and out
};

cudaError_t launch_unit_rows(const UnitRowsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
