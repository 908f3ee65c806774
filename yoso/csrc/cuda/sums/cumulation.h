// Sums of the values of colliding keys: out[i] = scale * the sum, over hashes, of the values of the keys in the bucket
// of query i.
#pragma once

#include "../common/launch.h"
#include "../sort/code_sort.h"

namespace yoso::cuda {

struct CumulationParams {
  Buckets buckets;  // of the heads first_head ... first_head + heads - 1
  int64_t first_head, heads, heads_per_batch;
  Dtype dtype;  // of value
  Rows value;
  void* out;         // [all heads, num_query, columns]
  bool float32_out;  // out is float32; otherwise it has value's dtype
  int64_t columns;
  float scale;
  const float* crowded_sums;  // of value, by launch_crowded_sums
};

cudaError_t launch_cumulation(const CumulationParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
