// A block a (head, hash), or several where the codes are long or the keys many: each then has the keys and the queries
// of a range of codes. Keys are counted by code into a table of buckets and put in place, in any order within a bucket,
// then in order. Where a bucket is large, or more keys than there is room for have codes of the range, a stable radix
// sort takes over, in one pass of up to 8 bits or two of half of them. At last every query looks its bucket up.
#include <algorithm>

#include "code_sort.h"
#include "code_sort_order.cuh"
#include "code_sort_radix.cuh"
#include "code_sort_tokens.cuh"

namespace yoso::cuda {
namespace {

// A block's table and keys leave room for a second block on a multiprocessor with 227 KiB, and fit 99 KiB.
constexpr int kTableBits = 32 - kKeyBits;
constexpr int64_t kKeysOfBlock = int64_t{1} << 13;
constexpr int64_t kKeysOfPart = 2 * kKeysOfBlock;  // a range may have more than its share
constexpr int kMostPartBits = 5;
// Up to this many keys of a bucket are put in order one by one.
constexpr uint32_t kMostCompared = 32;

int64_t in_fours(int64_t count) { return (count + 3) / 4 * 4; }

// How the work is dealt out; words of shared memory.
struct SortLayout {
  int part_bits;   // 2 ** part_bits blocks a (head, hash)
  int table_bits;  // codes of a block, 2 ** table_bits
  int digit_bits;  // of a pass of the radix sort
  int threads;
  uint32_t table_words, key_words, counter_words;

  SortLayout(int64_t num_key, int32_t hash_code_len) {
    part_bits = std::max(0, hash_code_len - kTableBits);
    while (part_bits < std::min(hash_code_len, kMostPartBits) && num_key > kKeysOfBlock << part_bits) ++part_bits;
    table_bits = hash_code_len - part_bits;
    digit_bits = table_bits <= 8 ? table_bits : (table_bits + 1) / 2;
    // About sixteen keys or codes a thread.
    const int64_t work = std::max(num_key, int64_t{1} << table_bits);
    for (threads = 64; threads < kMostSortThreads && threads * int64_t{16} < work;) threads *= 2;
    table_words = static_cast<uint32_t>(in_fours(int64_t{1} << table_bits));
    key_words = static_cast<uint32_t>(alone() ? in_fours(num_key) : kKeysOfPart);
    counter_words = static_cast<uint32_t>(yoso::cuda::counter_words(threads, digit_bits));
  }
  // A block that is alone has room for its keys twice, placed and in order. The counters of the radix sort take the
  // place of those in order, or of the only ones.
  int64_t words() const { return table_words + (alone() ? key_words : 0) + std::max(key_words, counter_words); }
  bool alone() const { return part_bits == 0; }
  bool two_passes() const { return digit_bits < table_bits; }
};

// The queries' entries. Those with codes of no block's are the first block's.
template <bool kAlone>
__device__ void look_up(const Tokens& queries, uint32_t first_code, uint32_t num_codes, int code_bits,
                        const uint32_t* table, uint32_t* entries) {
  const auto entry = [&](uint32_t code) { return code - first_code < num_codes ? table[code - first_code] : 0; };
  if (kAlone && queries.in_fours) {
#pragma unroll 2
    for (uint32_t first = 4 * threadIdx.x; first < queries.count; first += 4 * blockDim.x) {
      uint32_t code[4];
      queries.read(first, code);
      *reinterpret_cast<uint4*>(entries + first) =
          make_uint4(entry(code[0]), entry(code[1]), entry(code[2]), entry(code[3]));
    }
    return;
  }
  // Neighbouring lanes have neighbouring queries, so that blocks share few sectors.
#pragma unroll 4
  for (uint32_t query = threadIdx.x; query < queries.count; query += blockDim.x) {
    const uint32_t code = queries.code(query);
    if (code - first_code < num_codes || (first_code == 0 && code >> code_bits != 0)) entries[query] = entry(code);
  }
}

template <bool kAlone>
__global__ void __launch_bounds__(kMostSortThreads, 2)
    sort_codes(CodeSortParams params, SortLayout layout, bool key_fours, bool query_fours) {
  const Buckets& buckets = params.buckets;
  const uint32_t index = kAlone ? blockIdx.x : blockIdx.x >> layout.part_bits;
  const uint32_t num_codes = 1u << layout.table_bits;
  const uint32_t first_code = kAlone ? 0 : (blockIdx.x & ((1u << layout.part_bits) - 1)) << layout.table_bits;
  const auto tokens = [&](const uint16_t* codes, const bool* mask, int64_t count, bool in_fours) {
    const int64_t row = params.first_head * buckets.num_hash + index;
    // 32-bit divisions: a 64-bit one costs as much as many tokens.
    const uint32_t head = static_cast<uint32_t>(params.first_head) + index / static_cast<uint32_t>(buckets.num_hash);
    const int64_t batch = head / static_cast<uint32_t>(params.heads_per_batch);
    return Tokens{codes + row * count, mask ? mask + batch * count : nullptr, static_cast<uint32_t>(count), in_fours};
  };
  const Tokens keys = tokens(params.key_codes, params.key_mask, buckets.num_key, key_fours);
  uint32_t* table = dynamic_shared<uint32_t>();
  uint32_t* placed = table + layout.table_words;
  uint32_t* spare = kAlone ? placed + layout.key_words : placed;
  __shared__ uint32_t own_crowded;
  const EntryMaker make_entry{buckets, index, kAlone ? &own_crowded : buckets.crowded_count + index};
  const auto clear_table = [&] {
    for (uint32_t v = threadIdx.x; v < layout.table_words / 4; v += blockDim.x) {
      reinterpret_cast<uint4*>(table)[v] = make_uint4(0, 0, 0, 0);
    }
    __syncthreads();
  };

  if (threadIdx.x == 0) own_crowded = 0;
  clear_table();
  uint32_t smaller = 0;
  keys.for_each([&](uint32_t, uint32_t code) {
    if (code - first_code < num_codes) atomicAdd(&table[code - first_code], 1u);
    if constexpr (!kAlone) smaller += code < first_code ? 1 : 0;
  });
  __syncthreads();
  const Totals totals = exclusive_scan(table, layout.table_words, smaller);
  const uint32_t before = kAlone ? 0 : totals.of_threads;
  const bool radix = totals.largest > kMostCompared || totals.sum > layout.key_words || keys.count >> kKeyBits != 0;
  // Starts become ends.
  keys.for_each([&](uint32_t key, uint32_t code) {
    const uint32_t local = code - first_code;
    if (local >= num_codes) return;
    const uint32_t place = atomicAdd(&table[local], 1u);
    if (!radix) placed[place] = kAlone ? key : local << kKeyBits | key;
  });
  __syncthreads();
  uint32_t* ids = buckets.ids + int64_t{index} * buckets.num_key + before;
  if (!radix && kAlone) {
    order_by_table(keys, num_codes, table, placed, spare);
    __syncthreads();
    for (uint32_t p = threadIdx.x; p < totals.sum; p += blockDim.x) ids[p] = spare[p];
    make_entries(layout.table_words, before, spare, table, make_entry);
  } else if (!radix) {
    clear_table();
    order_by_neighbours(placed, totals.sum, before, ids, table, make_entry);
  } else {
    const bool last = layout.digit_bits == layout.table_bits;
    uint32_t* halfway = kAlone ? placed : params.halfway + int64_t{index} * buckets.num_key + before;
    const FromCodes source{keys.codes, keys.mask, first_code, num_codes, layout.digit_bits, last};
    radix_pass(source, keys.count, layout.digit_bits, spare, last ? ids : halfway);
    if (!last) radix_pass(FromHalfway{halfway}, totals.sum, layout.table_bits - layout.digit_bits, spare, ids);
    make_entries(layout.table_words, before, ids, table, make_entry);
  }
  __syncthreads();
  if (kAlone && threadIdx.x == 0) buckets.crowded_count[index] = own_crowded;
  look_up<kAlone>(tokens(params.query_codes, params.query_mask, buckets.num_query, query_fours), first_code, num_codes,
                  buckets.hash_code_len, table, buckets.entries + int64_t{index} * buckets.num_query);
}

int64_t aligned(int64_t bytes) { return (bytes + 15) / 16 * 16; }

// Whether four codes, and four of a mask, can be read at once.
bool are_fours(const uint16_t* codes, const bool* mask, int64_t count) {
  return count % 4 == 0 && reinterpret_cast<uintptr_t>(codes) % 8 == 0 && reinterpret_cast<uintptr_t>(mask) % 4 == 0;
}

// Words of a (head, hash) of the radix sort's first pass, where shared memory has no room for them.
int64_t halfway_words(const BucketSizes& sizes) {
  const SortLayout layout(sizes.num_key, sizes.hash_code_len);
  return layout.alone() || !layout.two_passes() ? 0 : sizes.num_key;
}

}  // namespace

int64_t crowded_capacity(const BucketSizes& sizes) {
  return std::min(sizes.num_key / (sizes.most_listed + 1), int64_t{1} << sizes.hash_code_len);
}

// Each part is rounded up to 16 bytes once a head, which covers its one rounding in place_buckets.
int64_t bucket_bytes(const BucketSizes& sizes) {
  const int64_t word = sizeof(uint32_t), num_hash = sizes.num_hash;
  return aligned(num_hash * crowded_capacity(sizes) * static_cast<int64_t>(sizeof(uint2))) +
         aligned(num_hash * sizes.num_query * word) + aligned(num_hash * sizes.num_key * word) +
         aligned(num_hash * word) + aligned(num_hash * halfway_words(sizes) * word);
}

void place_buckets(CodeSortParams& params, const BucketSizes& sizes, void* workspace) {
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
  params.halfway = halfway_words(sizes) ? take_words(sizes.num_key) : nullptr;
}

cudaError_t launch_code_sort(const CodeSortParams& params, cudaStream_t stream) {
  const Buckets& buckets = params.buckets;
  const SortLayout layout(buckets.num_key, buckets.hash_code_len);
  const int64_t rows = params.heads * buckets.num_hash;
  if (layout.part_bits > 0) {  // a row's blocks count together
    const cudaError_t error = cudaMemsetAsync(buckets.crowded_count, 0, rows * sizeof(uint32_t), stream);
    if (error != cudaSuccess) return error;
  }
  return launch(layout.alone() ? sort_codes<true> : sort_codes<false>,
                dim3(static_cast<unsigned>(rows << layout.part_bits)), dim3(static_cast<unsigned>(layout.threads)),
                static_cast<size_t>(layout.words()) * sizeof(uint32_t), stream, params, layout,
                are_fours(params.key_codes, params.key_mask, buckets.num_key),
                are_fours(params.query_codes, params.query_mask, buckets.num_query));
}

}  // namespace yoso::cuda
