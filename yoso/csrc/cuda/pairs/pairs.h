// One side of the gradient of LSH attention, by visiting the colliding pairs. For a token i of this side and its
// neighbours j, the tokens of the other side in the same buckets (once a hash that they share):
//   out[i]     = scale     * sum_j (own[i] . partner[j]) direction[j]
//   out_sum[i] = sum_scale * sum_j partner[j]
// grad_query: own = grad, partner = value, direction = key. grad_key and, as the sum, grad_value: own = value,
// partner = grad, direction = query.
#pragma once

#include "../common/launch.h"
#include "../common/rows.h"
#include "../sort/code_sort.h"

namespace yoso::cuda {

struct PairsParams {
  Buckets buckets;  // this side looks up; of the heads first_head ... first_head + heads - 1
  int64_t first_head, heads, heads_per_batch;
  Dtype dtype;        // of all rows
  Rows own, partner;  // rows of partner_dim elements
  Rows direction;     // rows of direction_dim elements
  int64_t partner_dim, direction_dim;
  float scale, sum_scale;
  void* out;      // [all heads, num_query, direction_dim]
  void* out_sum;  // [all heads, num_query, partner_dim], or null
  // Of the crowded buckets' pairs; not read where there are none.
  const float* moments;       // as launch_moments leaves them, before scale
  const float* crowded_sums;  // of partner, by launch_crowded_sums, before sum_scale; of no use without out_sum
};

cudaError_t launch_pairs(const PairsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
