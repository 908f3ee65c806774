// The sums of the rows of crowded buckets, computed once for all tokens that look them up.
#pragma once

#include "../common/launch.h"
#include "../sort/code_sort.h"

namespace yoso::cuda {

struct CrowdedSumsParams {
  Buckets buckets;  // of the heads first_head ... first_head + heads - 1
  int64_t first_head, heads, heads_per_batch;
  Dtype dtype;
  Rows rows;  // of the keys, `columns` elements each
  int64_t columns;
  float* sums;  // [heads, num_hash, crowded_capacity, float_row(columns)]
};

// The stride, in floats, of float32 rows of `columns` columns: rows are aligned to 16 bytes.
__host__ __device__ constexpr int64_t float_row(int64_t columns) { return (columns + 3) / 4 * 4; }

// Bytes of the sums of one head; a multiple of 16.
inline int64_t crowded_sums_bytes(const BucketSizes& sizes, int64_t columns) {
  return sizes.num_hash * crowded_capacity(sizes) * float_row(columns) * static_cast<int64_t>(sizeof(float));
}

cudaError_t launch_crowded_sums(const CrowdedSumsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
