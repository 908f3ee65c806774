// The part of the sampled gradient that crowded buckets contribute.
//
// The number of pairs in a bucket is the product of its sources and its targets. A moment makes their cost a sum: over
// the sources j of a bucket, sum_j (own[i] . partner[j]) direction[j] = own[i] (sum_j partner[j] direction[j]^T), and
// the matrix in parentheses, the moment, is the same for all targets i of the bucket.
#pragma once

#include "../common/launch.h"
#include "../sort/code_sort.h"

namespace yoso::cuda {

struct MomentsParams {
  Buckets sources;  // its keys are the tokens j that are summed; only its crowded buckets are processed
  Buckets targets;  // the same heads and codes with queries and keys exchanged: its keys are the tokens i
  int64_t first_head, heads, heads_per_batch;
  Dtype dtype;
  Rows own;                 // of the targets, partner_dim elements
  Rows partner, direction;  // of the sources, partner_dim and direction_dim elements
  int64_t partner_dim, direction_dim;
  // [heads, targets, float_row(direction_dim)]. Not written for a head without crowded buckets; for the other heads,
  // zero for targets that are in no crowded bucket.
  float* out;
};

// The most_listed (code_sort.h) for which visiting a bucket's pairs and computing its moment take about the same time,
// with `heads` heads processed at once. The whole device visits pairs, but only a few CTAs compute the moments of a
// head. The model's constants are measured times, see NOTES.md.
uint32_t most_listed(int64_t heads, const BucketSizes& sizes, int64_t partner_dim, int64_t direction_dim, Dtype dtype);

cudaError_t launch_moments(const MomentsParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
