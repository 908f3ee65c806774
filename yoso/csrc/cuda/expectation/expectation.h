// YOSO-E over all pairs of rows, in O(n) memory. For each of the `own` rows i, with sums over all `other` rows j:
//
//   W_ij      = (1 - arccos(own.x[i] . other.x[j]) / pi) ** tau
//   W'_ij     = the derivative of W_ij with respect to the cosine, surrogate or exact
//   sum[i]    = sum_j W_ij other.value[j]
//   grad_x[i] = sum_j W'_ij (own.value[i] . other.value[j]) other.x[j]
//
//               own             other           sum            grad_x
//   forward     query           key, value      the output     -
//   backward    query, grad     key, value      -              grad_query
//   backward    key, value      query, grad     grad_value     grad_key
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

// A masked row (mask [B, N] contiguous or null; false: masked) contributes nothing, and its results are zero.
struct ExpectationRows {
  Rows x, value;  // [B, H, N, x_dim], [B, H, N, value_dim]
  const bool* mask;
  int64_t count;  // N
};

struct ExpectationParams {
  ExpectationRows own, other;  // own.value is read only for grad_x
  void* sum;                   // contiguous [B, H, own.count, value_dim], or null if not wanted
  bool float32_sum;            // sum is float32, whatever dtype is; only without grad_x
  void* grad_x;                // contiguous [B, H, own.count, x_dim], or null if not wanted
  int64_t batch, heads;
  int32_t x_dim, value_dim;  // 1 to 256
  int32_t hash_code_len;     // tau, 1 to 16
  bool exact_gradient;
  Dtype dtype;
};

cudaError_t launch_expectation(const ExpectationParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
