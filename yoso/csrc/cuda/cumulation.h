// Sums of the values of colliding keys: out[i] = scale * sum over hashes and over the keys in query i's bucket.
#pragma once

#include "code_sort.h"
#include "launch.h"
#include "rows.h"

namespace yoso::cuda {

struct CumulationParams {
  Buckets buckets;  // of the heads first_head ... first_head + heads - 1
  int64_t first_head, heads, heads_per_batch;
  Dtype dtype;  // of value and out
  Rows value;
  void* out;  // [all heads, num_query, columns]
  int64_t columns;
  float scale;
  float* crowded_sums;  // [heads, num_hash, crowded_capacity, crowded_row_floats(columns)]
};

// Floats from one row of crowded_sums to the next.
int64_t crowded_row_floats(int64_t columns);

cudaError_t launch_cumulation(const CumulationParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
