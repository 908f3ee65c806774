// One block a (head, hash): a table of buckets by counting, and every query's look-up in it, here where the table is
// near. Keys go into small buckets in any order and are put in order there. Where a bucket is larger, a stable radix
// sort of all keys takes over, in one pass of up to 8 bits or two of half of them.
#include <algorithm>

#include "code_sort.h"
#include "code_sort_radix.cuh"

namespace yoso::cuda {
namespace {

// What every supported device gives a block, and lets two of them share a multiprocessor on the larger ones.
constexpr int64_t kSharedBytes = 96 * 1024;
// Up to this many keys, one thread puts a bucket in order by insertion.
constexpr uint32_t kMostInserted = 32;

int64_t pass_count(int32_t hash_code_len) { return hash_code_len <= 8 ? 1 : 2; }

// Words of shared memory for each use, 0 where global memory takes its place.
struct SharedWords {
  int64_t counters, table, keys;
  int64_t bytes() const { return (counters + table + keys) * static_cast<int64_t>(sizeof(uint32_t)); }
};

// About eight keys or sixteen codes a thread.
int threads_for(int64_t num_key, int32_t hash_code_len) {
  const int64_t work = std::max(num_key, int64_t{1} << hash_code_len >> 1);
  int threads = 64;
  while (threads < kMostSortThreads && threads * int64_t{8} < work) threads *= 2;
  return threads;
}

SharedWords shared_words(int64_t num_key, int32_t hash_code_len) {
  const int64_t passes = pass_count(hash_code_len), bits = (hash_code_len + passes - 1) / passes;
  const int threads = threads_for(num_key, hash_code_len);
  SharedWords words{counter_stride(threads) << bits, int64_t{1} << hash_code_len, num_key};
  if (words.bytes() > kSharedBytes) words.keys = 0;
  if (words.bytes() > kSharedBytes) words.table = 0;
  return words;
}

__device__ void put_in_order(uint32_t* keys, uint32_t count) {
  for (uint32_t a = 1; a < count; ++a) {
    const uint32_t key = keys[a];
    uint32_t b = a;
    for (; b > 0 && keys[b - 1] > key; --b) keys[b] = keys[b - 1];
    keys[b] = key;
  }
}

// Makes a table of where buckets end one of entries. Each entry needs the end before it, so the block goes through the
// table downwards, reading before it writes.
__device__ void make_entries(const Buckets& buckets, int64_t index, int code_bits, bool ordered, uint32_t* keys,
                             uint32_t* table) {
  __shared__ uint32_t crowded_count;
  if (threadIdx.x == 0) crowded_count = 0;
  const int num_codes = 1 << code_bits, threads = static_cast<int>(blockDim.x);
  for (int tile = (num_codes - 1) / threads; tile >= 0; --tile) {
    const int code = tile * threads + static_cast<int>(threadIdx.x);
    const uint32_t first = 0 < code && code < num_codes ? table[code - 1] : 0;
    const uint32_t count = code < num_codes ? table[code] - first : 0;
    __syncthreads();
    if (code >= num_codes) continue;
    if (!ordered) put_in_order(keys + first, count);
    if (count == 1) {
      table[code] = keys[first] << kEntryShift | count;
    } else if (count <= buckets.most_listed) {
      table[code] = count == 0 ? 0 : first << kEntryShift | count;
    } else {
      // Which bucket gets which place depends on the order of threads; what is computed for it does not.
      const uint32_t place = atomicAdd(&crowded_count, 1u);
      buckets.crowded[index * buckets.crowded_capacity + place] = make_uint2(first, count);
      table[code] = place << kEntryShift | kCrowded;
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) buckets.crowded_count[index] = crowded_count;
}

__global__ void __launch_bounds__(kMostSortThreads, 2) sort_codes(CodeSortParams params, SharedWords words) {
  const Buckets& buckets = params.buckets;
  const int64_t index = blockIdx.x, row = params.first_head * buckets.num_hash + index;
  const int64_t batch = row / buckets.num_hash / params.heads_per_batch;
  const uint32_t num_key = static_cast<uint32_t>(buckets.num_key), num_query = static_cast<uint32_t>(buckets.num_query);
  const int code_bits = buckets.hash_code_len;
  const uint32_t num_codes = 1u << code_bits;
  uint32_t* counters = dynamic_shared<uint32_t>();
  uint32_t* table = words.table ? counters + words.counters : params.table + (index << code_bits);
  uint32_t* ids = buckets.ids + index * buckets.num_key;
  uint32_t* keys = words.keys ? counters + words.counters + words.table : ids;
  const uint16_t* codes = params.key_codes + row * buckets.num_key;
  const bool* mask = params.key_mask ? params.key_mask + batch * buckets.num_key : nullptr;
  const FromCodes source{codes, mask, code_bits, code_bits};

  for (uint32_t code = threadIdx.x; code < num_codes; code += blockDim.x) table[code] = 0;
  __syncthreads();
  uint32_t most = 0;
#pragma unroll 4
  for (uint32_t j = threadIdx.x; j < num_key; j += blockDim.x) {
    const Item item = source(j);
    if (item.sorted) most = max(most, atomicAdd(&table[item.digit], 1u) + 1);
  }
  const bool radix = __syncthreads_or(most > kMostInserted);
  exclusive_scan(table, num_codes);
  // Starts become ends.
#pragma unroll 4
  for (uint32_t j = threadIdx.x; j < num_key; j += blockDim.x) {
    const Item item = source(j);
    if (!item.sorted) continue;
    const uint32_t place = atomicAdd(&table[item.digit], 1u);
    if (!radix) keys[place] = j;
  }
  __syncthreads();
  const uint32_t total = table[num_codes - 1];
  if (radix && code_bits <= 8) {
    radix_pass(source, num_key, code_bits, counters, keys);
  } else if (radix) {
    const int low_bits = (code_bits + 1) / 2;
    uint32_t* halfway = words.keys ? keys : params.halfway + index * buckets.num_key;
    radix_pass(FromCodes{codes, mask, low_bits, code_bits}, num_key, low_bits, counters, halfway);
    radix_pass(FromHalfway{halfway}, total, code_bits - low_bits, counters, ids);
    keys = ids;
  }
  make_entries(buckets, index, code_bits, radix, keys, table);
  if (keys != ids) {
    for (uint32_t p = threadIdx.x; p < total; p += blockDim.x) ids[p] = keys[p];
  }

  const uint16_t* query_codes = params.query_codes + row * buckets.num_query;
  const bool* query_mask = params.query_mask ? params.query_mask + batch * buckets.num_query : nullptr;
  uint32_t* entries = buckets.entries + index * buckets.num_query;
#pragma unroll 4
  for (uint32_t i = threadIdx.x; i < num_query; i += blockDim.x) {
    const uint32_t code = query_codes[i];
    const bool real = code >> code_bits == 0 && (!query_mask || query_mask[i]);
    entries[i] = real ? table[code] : 0;
  }
}

int64_t aligned(int64_t bytes) { return (bytes + 15) / 16 * 16; }

}  // namespace

int64_t crowded_capacity(const BucketSizes& sizes) {
  return std::min(sizes.num_key / (sizes.most_listed + 1), int64_t{1} << sizes.hash_code_len);
}

// Each part is rounded up to 16 bytes once a head, which covers its one rounding in place_buckets.
int64_t bucket_bytes(const BucketSizes& sizes) {
  const SharedWords words = shared_words(sizes.num_key, sizes.hash_code_len);
  const int64_t word = sizeof(uint32_t), num_hash = sizes.num_hash;
  const int64_t table = words.table ? 0 : int64_t{1} << sizes.hash_code_len;
  const int64_t halfway = words.keys || pass_count(sizes.hash_code_len) == 1 ? 0 : sizes.num_key;
  return aligned(num_hash * crowded_capacity(sizes) * static_cast<int64_t>(sizeof(uint2))) +
         aligned(num_hash * sizes.num_query * word) + aligned(num_hash * sizes.num_key * word) +
         aligned(num_hash * word) + aligned(num_hash * table * word) + aligned(num_hash * halfway * word);
}

void place_buckets(CodeSortParams& params, const BucketSizes& sizes, void* workspace) {
  const SharedWords words = shared_words(sizes.num_key, sizes.hash_code_len);
  unsigned char* next = static_cast<unsigned char*>(workspace);
  const auto take = [&](int64_t bytes) {
    unsigned char* here = next;
    next += aligned(bytes);
    return here;
  };
  const int64_t rows = params.heads * sizes.num_hash, capacity = crowded_capacity(sizes);
  const auto take_words = [&](int64_t count) {
    return reinterpret_cast<uint32_t*>(take(rows * count * static_cast<int64_t>(sizeof(uint32_t))));
  };
  Buckets& buckets = params.buckets;
  static_cast<BucketSizes&>(buckets) = sizes;
  buckets.crowded_capacity = capacity;
  buckets.crowded = reinterpret_cast<uint2*>(take(rows * capacity * static_cast<int64_t>(sizeof(uint2))));
  buckets.entries = take_words(sizes.num_query);
  buckets.ids = take_words(sizes.num_key);
  buckets.crowded_count = take_words(1);
  params.table = words.table ? nullptr : take_words(int64_t{1} << sizes.hash_code_len);
  params.halfway = words.keys || pass_count(sizes.hash_code_len) == 1 ? nullptr : take_words(sizes.num_key);
}

cudaError_t launch_code_sort(const CodeSortParams& params, cudaStream_t stream) {
  const SharedWords words = shared_words(params.buckets.num_key, params.buckets.hash_code_len);
  const int64_t blocks = params.heads * params.buckets.num_hash;
  return launch(sort_codes, dim3(static_cast<unsigned>(blocks)),
                dim3(threads_for(params.buckets.num_key, params.buckets.hash_code_len)),
                static_cast<size_t>(words.bytes()), stream, params, words);
}

}  // namespace yoso::cuda
