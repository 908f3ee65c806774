// The sampled gradient's pairs in crowded buckets, whose number is a product of two: by a moment, whose cost is a sum.
//
// Over the sources j of a bucket, sum_j (own[i] . partner[j]) direction[j] = own[i] (sum_j partner[j] direction[j]^T):
// one matrix for all of the bucket's targets i.
#pragma once

#include "code_sort.h"
#include "launch.h"
#include "rows.h"

namespace yoso::cuda {

struct MomentsParams {
  Buckets sources;  // those that are summed are its keys; their crowded buckets are meant
  Buckets targets;  // the same heads and codes with sides exchanged: those that get the sums are its keys
  int64_t first_head, heads, heads_per_batch;
  Dtype dtype;
  Rows own;                 // of the targets, partner_dim elements
  Rows partner, direction;  // of the sources, partner_dim and direction_dim elements
  int64_t partner_dim, direction_dim;
  // [heads, targets, float_row(direction_dim)]. Unwritten for a head without crowded buckets; for the others, zero for
  // targets that are in none.
  float* out;
};

// How many blocks a head occupies, which decides from which size on a bucket should be crowded.
int64_t moment_blocks(int64_t direction_dim);

cudaError_t launch_moments(const MomentsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
