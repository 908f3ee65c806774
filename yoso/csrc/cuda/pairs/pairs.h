// The gradients of LSH attention with respect to the queries, or to the keys and values, by visiting all colliding
// pairs. For token i and the tokens j in its buckets (counted once per shared hash):
//
//   out[i]     = scale     * sum_j (own[i] . partner[j]) direction[j]
//   out_sum[i] = sum_scale * sum_j partner[j]
//
//                  i         j         own     partner   direction   out          out_sum
//   query's side   queries   keys      grad    value     key         grad_query   not computed
//   key's side     keys      queries   value   grad      query       grad_key     grad_value
#pragma once

#include "../common/launch.h"
#include "../sort/code_sort.h"

namespace yoso::cuda {

struct PairsParams {
  Buckets buckets;  // tokens i look up tokens j; of the heads first_head ... first_head + heads - 1
  int64_t first_head, heads, heads_per_batch;
  Dtype dtype;        // of all rows
  Rows own, partner;  // rows of partner_dim elements
  Rows direction;     // rows of direction_dim elements
  int64_t partner_dim, direction_dim;
  float scale, sum_scale;
  void* out;      // [all heads, num_query, direction_dim]
  void* out_sum;  // [all heads, num_query, partner_dim], or null
  // The contributions of crowded buckets, whose pairs are not visited; not read if there are none.
  const float* moments;       // to out, by launch_moments, before scale
  const float* crowded_sums;  // to out_sum, by launch_crowded_sums of partner, before sum_scale; unused without out_sum
};

cudaError_t launch_pairs(const PairsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
