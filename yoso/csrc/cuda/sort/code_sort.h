// Key tokens ordered by hash code, and for every query token the bucket of keys that its code names.
//
// Within a bucket keys ascend. Masked tokens and codes of more than hash_code_len bits are in no
// bucket. "Keys" are the tokens that are sorted, "queries" the ones that look up: a gradient may pass them swapped.
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

// An entry holds the number of keys in its low 8 bits and 24 bits above them: with one key its id; with up to
// most_listed the bucket's first position in ids; with kCrowded an index into crowded.
constexpr uint32_t kCrowded = 255;
constexpr int kEntryShift = 8;
constexpr int64_t kMostTokens = int64_t{1} << (32 - kEntryShift);

constexpr uint32_t kFewestListed = 8, kMostListed = kCrowded - 1;

struct BucketSizes {
  int64_t num_query, num_key;
  int32_t num_hash;
  uint32_t most_listed;  // kFewestListed to kMostListed; with more keys a bucket is crowded: its sums are made once
  int32_t hash_code_len;
};

// In global memory, for some heads; sizes in elements.
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
  uint32_t* halfway;  // [heads, num_hash, num_key], null where shared memory has it or one pass is enough
};

// No more buckets than this can be crowded.
int64_t crowded_capacity(const BucketSizes& sizes);

// Bytes of global memory that one head's buckets take.
int64_t bucket_bytes(const BucketSizes& sizes);

// Points params.buckets (whose sizes are set here too) and halfway into heads * bucket_bytes() bytes, aligned to
// 16.
void place_buckets(CodeSortParams& params, const BucketSizes& sizes, void* workspace);

cudaError_t launch_code_sort(const CodeSortParams& params, cudaStream_t stream);

}  // namespace yoso::cuda
