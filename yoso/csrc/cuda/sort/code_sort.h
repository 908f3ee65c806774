// Sorts key tokens by hash code into buckets and looks up, for every query token, the bucket of its code.
//
// Keys ascend within a bucket. Masked tokens and codes of more than hash_code_len bits are in no bucket. "Keys" are the
// tokens that are sorted, "queries" the tokens that look up buckets; the gradient also calls this with the two
// exchanged.
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

// A bucket's entry: the number of keys in the low 8 bits and a payload in the 24 bits above them.
//
//   low 8 bits          payload
//   0                   0                                             no key
//   1                   the key's id
//   2 to most_listed    position of the bucket's first key in ids
//   kCrowded            index into crowded                            more than most_listed keys
constexpr uint32_t kCrowded = 255;
constexpr int kEntryShift = 8;
constexpr int64_t kMostTokens = int64_t{1} << (32 - kEntryShift);

// The range of most_listed.
constexpr uint32_t kFewestListed = 8, kMostListed = kCrowded - 1;

struct BucketSizes {
  int64_t num_query, num_key;
  int32_t num_hash;
  uint32_t most_listed;  // a bucket with more keys is crowded: its sums are computed once, not once per query
  int32_t hash_code_len;
};

// The buckets of some heads, in global memory; sizes in elements.
struct Buckets : BucketSizes {
  uint32_t* entries;        // [heads, num_hash, num_query]
  uint32_t* ids;            // [heads, num_hash, num_key], keys by (code, token)
  uint2* crowded;           // [heads, num_hash, crowded_capacity], (first position in ids, number of keys) in any order
  uint32_t* crowded_count;  // [heads, num_hash]
  int64_t crowded_capacity;
};

struct CodeSortParams {
  const uint16_t* key_codes;    // [all heads, num_hash, num_key]
  const uint16_t* query_codes;  // [all heads, num_hash, num_query]
  const bool* key_mask;         // [all heads / heads_per_batch, num_key] or null
  const bool* query_mask;       // [all heads / heads_per_batch, num_query] or null
  int64_t first_head, heads, heads_per_batch;
  Buckets buckets;
  // The result of the radix sort's first pass, [heads, num_hash, num_key]. Null if shared memory holds it or one pass
  // is enough.
  uint32_t* first_pass;
};

// An upper bound on the number of crowded buckets per head and hash.
int64_t crowded_capacity(const BucketSizes& sizes);

// Bytes of global memory that the buckets of one head take.
int64_t bucket_bytes(const BucketSizes& sizes);

// Sets params.buckets, its sizes included, and params.first_pass to point into a workspace of params.heads *
// bucket_bytes() bytes, aligned to 16.
void place_buckets(CodeSortParams& params, const BucketSizes& sizes, void* workspace);

cudaError_t launch_code_sort(const CodeSortParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
