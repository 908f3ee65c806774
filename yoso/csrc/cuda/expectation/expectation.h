// YOSO-E over all pairs of two sides, the rows that own the results and the others, in O(n) memory:
//   sum[i]    = sum_j W_ij other.value[j],                            W = (1 - arccos(own.x[i] . other.x[j]) / pi) **
//   tau grad_x[i] = sum_j W'_ij (own.value[i] . other.value[j]) other.x[j],     W' = dW / dcosine, surrogate or exact
// Forward: own = (query), other = (key, value), sum = the output.
// Backward: own = (query, grad), other = (key, value), grad_x = query's gradient; and with the sides exchanged,
// grad_x = key's gradient, sum = value's.
#pragma once

#include "../common/launch.h"
#include "../common/rows.h"

namespace yoso::cuda {

// A masked row (mask [B, N] contiguous or null; false: masked) adds nothing and gets zeros.
struct ExpectationSide {
  Rows x, value;  // [B, H, N, x_dim], [B, H, N, value_dim]
  const bool* mask;
  int64_t count;  // N
};

struct ExpectationParams {
  ExpectationSide own, other;  // own.value is read only for grad_x
  void* sum;                   // contiguous [B, H, own.count, value_dim], or null if not wanted
  void* grad_x;                // contiguous [B, H, own.count, x_dim], or null if not wanted
  int64_t batch, heads;
  int32_t x_dim, value_dim;  // 1 to 256
  int32_t hash_code_len;     // tau, 1 to 16
  bool exact_gradient;
  Dtype dtype;
};

cudaError_t launch_expectation(const ExpectationParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
