// The sampled gradient's pairs in crowded buckets, whose number is a product of two: by a moment, whose cost is a sum.
//
// Over the sources j of a bucket, sum_j (own[i] . partner[j]) direction[j] = own[i] (sum_j partner[j] direction[j]^T):
// one matrix for all of the bucket's targets i.
#pragma once

#include "../common/launch.h"
#include "../common/rows.h"
#include "../sort/code_sort.h"

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

// Sources of a bucket that a target had better visit one by one, with so many heads at once. The whole device
// visits pairs, and a head's moments are a few blocks' work. From measured times, see NOTES.md.
uint32_t most_listed(int64_t heads, const BucketSizes& sizes, int64_t partner_dim, int64_t direction_dim, Dtype dtype);

cudaError_t launch_moments(const MomentsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
