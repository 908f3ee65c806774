// One CTA sorts one row, that is the codes of one (head, hash). If codes are long or keys many, several CTAs share a
// row, and each takes the keys and the queries of a range of codes. The work has six phases:
//
//   1. clear_table, count_keys   count the keys of each code
//   2. exclusive_scan            find where each bucket starts
//   3. place_keys                place each key in its bucket, in any order within the bucket
//   4. order the keys of each bucket, by one of three methods
//        order_by_table          if the CTA has the whole row
//        order_by_neighbours     if it shares the row
//        order_by_radix_sort     from the codes again, if needs_radix_sort
//   5. make_entries              turn the table of buckets into a table of entries; order_by_neighbours does this too
//   6. look_up_queries           write the entry of every query
//
// code_sort_phases.cuh tells what the table holds after each of them.
#include <algorithm>

#include "code_sort.h"
#include "code_sort_phases.cuh"
#include "code_sort_radix.cuh"

namespace yoso::cuda {
namespace {

// A CTA's table and keys leave room for a second CTA on an SM with 227 KiB of shared memory, and fit 99 KiB.
constexpr int kTableBits = 32 - kKeyBits;
constexpr int64_t kKeysPerCta = int64_t{1} << 13;
constexpr int64_t kKeyRoomOfSharedRow = 2 * kKeysPerCta;  // a range may have more than its share of the keys
constexpr int kMostPartBits = 5;
// Buckets of up to this many keys are ordered by comparing keys.
constexpr uint32_t kMostCompared = 32;

// Whether phase 4 has to sort stably from the codes instead of comparing the keys of each bucket: a bucket has too many
// keys to compare, the CTA's keys do not fit in shared memory, or ids do not fit in kKeyBits.
__device__ inline bool needs_radix_sort(const Totals& totals, uint32_t key_room, uint32_t num_key) {
  return totals.largest > kMostCompared || totals.sum > key_room || num_key >> kKeyBits != 0;
}

int64_t round_up_to_four(int64_t count) { return (count + 3) / 4 * 4; }

// How the work is divided, and the words of a CTA's shared memory (SortMemory).
struct SortLayout {
  int part_bits;   // 2 ** part_bits CTAs per row
  int table_bits;  // 2 ** table_bits codes per CTA
  int digit_bits;  // of the radix sort's first pass
  int threads;
  uint32_t table_words, key_words, counter_words;

  SortLayout(int64_t num_key, int32_t hash_code_len) {
    part_bits = std::max(0, hash_code_len - kTableBits);
    while (part_bits < std::min(hash_code_len, kMostPartBits) && num_key > kKeysPerCta << part_bits) ++part_bits;
    table_bits = hash_code_len - part_bits;
    digit_bits = table_bits <= 8 ? table_bits : (table_bits + 1) / 2;
    // About sixteen keys or codes per thread.
    const int64_t work = std::max(num_key, int64_t{1} << table_bits);
    for (threads = 64; threads < kMostSortThreads && threads * int64_t{16} < work;) threads *= 2;
    table_words = static_cast<uint32_t>(round_up_to_four(int64_t{1} << table_bits));
    key_words = static_cast<uint32_t>(whole_row() ? round_up_to_four(num_key) : kKeyRoomOfSharedRow);
    counter_words = static_cast<uint32_t>(yoso::cuda::counter_words(threads, digit_bits));
  }
  int64_t words() const { return table_words + (whole_row() ? key_words : 0) + std::max(key_words, counter_words); }
  bool whole_row() const { return part_bits == 0; }
  bool two_passes() const { return digit_bits < table_bits; }
};

// A CTA's shared memory:
//
//   if it has the whole row   table | placed | ordered
//   if it shares the row      table | placed             its ordered keys go directly to global memory
//
// The radix sort's counters overlay the last part, which the radix sort does not use otherwise.
struct SortMemory {
  uint32_t* table;     // [table_words], see code_sort_phases.cuh
  uint32_t* placed;    // [key_words] keys in their buckets, in any order; with the whole row also the first radix pass
  uint32_t* ordered;   // [key_words] ids in their final order; only with the whole row
  uint32_t* counters;  // [counter_words] of the radix sort
};

template <bool kWholeRow>
__device__ inline SortMemory sort_memory(const SortLayout& layout) {
  SortMemory memory;
  memory.table = dynamic_shared<uint32_t>();
  memory.placed = memory.table + layout.table_words;
  memory.ordered = memory.placed + (kWholeRow ? layout.key_words : 0);
  memory.counters = memory.ordered;
  return memory;
}

// The codes and the mask of one row.
__device__ inline Tokens tokens_of_row(const CodeSortParams& params, uint32_t row, const uint16_t* codes,
                                       const bool* mask, int64_t count, bool by_fours) {
  const int64_t row_of_all = params.first_head * params.buckets.num_hash + row;
  // 32-bit divisions: a 64-bit division costs as much as many tokens.
  const uint32_t head = static_cast<uint32_t>(params.first_head) + row / static_cast<uint32_t>(params.buckets.num_hash);
  const int64_t batch = head / static_cast<uint32_t>(params.heads_per_batch);
  return Tokens{codes + row_of_all * count, mask ? mask + batch * count : nullptr, static_cast<uint32_t>(count),
                by_fours};
}

// Writes the ids of the CTA's `total` keys to `ids`, ordered by code and ascending within a bucket. The CTA's part of
// params.first_pass starts at first_key.
template <bool kWholeRow>
__device__ inline void order_by_radix_sort(const CodeSortParams& params, const Tokens& keys, CodeRange range,
                                           const SortLayout& layout, const SortMemory& memory, uint32_t total,
                                           int64_t first_key, uint32_t* ids) {
  const bool one_pass = layout.digit_bits == layout.table_bits;
  uint32_t* first_pass = kWholeRow ? memory.placed : params.first_pass + first_key;
  const RadixFromCodes codes{keys.codes, keys.mask, range.first, range.count, layout.digit_bits, one_pass};
  radix_pass(codes, keys.count, layout.digit_bits, memory.counters, one_pass ? ids : first_pass);
  if (!one_pass) {
    radix_pass(RadixFromFirstPass{first_pass}, total, layout.table_bits - layout.digit_bits, memory.counters, ids);
  }
}

template <bool kWholeRow>
__global__ void __launch_bounds__(kMostSortThreads, 2)
    sort_codes(CodeSortParams params, SortLayout layout, bool keys_by_fours, bool queries_by_fours) {
  const Buckets& buckets = params.buckets;
  const uint32_t row = kWholeRow ? blockIdx.x : blockIdx.x >> layout.part_bits;
  const uint32_t num_codes = 1u << layout.table_bits;
  const uint32_t part = kWholeRow ? 0 : blockIdx.x & ((1u << layout.part_bits) - 1);
  const CodeRange range{part << layout.table_bits, num_codes};
  const Tokens keys = tokens_of_row(params, row, params.key_codes, params.key_mask, buckets.num_key, keys_by_fours);
  const SortMemory memory = sort_memory<kWholeRow>(layout);
  __shared__ uint32_t own_crowded_count;
  const EntryMaker make_entry{buckets, row, kWholeRow ? &own_crowded_count : buckets.crowded_count + row};

  // 1. Count.
  if (threadIdx.x == 0) own_crowded_count = 0;
  clear_table(memory.table, layout.table_words);
  const uint32_t smaller = count_keys<kWholeRow>(keys, range, memory.table);
  __syncthreads();

  // 2. Scan: counts become starts.
  const Totals totals = exclusive_scan(memory.table, layout.table_words, smaller);
  const uint32_t before = kWholeRow ? 0 : totals.thread_sum;  // keys of the row with codes below the range
  const bool by_radix_sort = needs_radix_sort(totals, layout.key_words, keys.count);

  // 3. Place: starts become ends.
  place_keys<kWholeRow>(keys, range, by_radix_sort, memory.table, memory.placed);
  __syncthreads();

  // 4. Order, and 5. make entries.
  uint32_t* ids = buckets.ids + int64_t{row} * buckets.num_key + before;
  if (kWholeRow && !by_radix_sort) {
    order_by_table(keys, range, memory.table, memory.placed, memory.ordered);
    __syncthreads();
    for (uint32_t p = threadIdx.x; p < totals.sum; p += blockDim.x) ids[p] = memory.ordered[p];
    make_entries(layout.table_words, before, memory.ordered, memory.table, make_entry);
  } else if (!by_radix_sort) {
    clear_table(memory.table, layout.table_words);
    order_by_neighbours(memory.placed, totals.sum, before, ids, memory.table, make_entry);  // makes the entries too
  } else {
    const int64_t first_key = int64_t{row} * buckets.num_key + before;
    order_by_radix_sort<kWholeRow>(params, keys, range, layout, memory, totals.sum, first_key, ids);
    make_entries(layout.table_words, before, ids, memory.table, make_entry);
  }
  __syncthreads();
  if (kWholeRow && threadIdx.x == 0) buckets.crowded_count[row] = own_crowded_count;

  // 6. Look up.
  const Tokens queries =
      tokens_of_row(params, row, params.query_codes, params.query_mask, buckets.num_query, queries_by_fours);
  look_up_queries<kWholeRow>(queries, range, buckets.hash_code_len, memory.table,
                             buckets.entries + int64_t{row} * buckets.num_query);
}

int64_t align_to_16(int64_t bytes) { return (bytes + 15) / 16 * 16; }

// Whether four codes, and four elements of the mask, can be read as one vector.
bool can_read_by_fours(const uint16_t* codes, const bool* mask, int64_t count) {
  return count % 4 == 0 && reinterpret_cast<uintptr_t>(codes) % 8 == 0 && reinterpret_cast<uintptr_t>(mask) % 4 == 0;
}

// Words per row that the radix sort's first pass needs in global memory, because shared memory has no room for them.
int64_t first_pass_words(const BucketSizes& sizes) {
  const SortLayout layout(sizes.num_key, sizes.hash_code_len);
  return layout.whole_row() || !layout.two_passes() ? 0 : sizes.num_key;
}

}  // namespace

int64_t crowded_capacity(const BucketSizes& sizes) {
  return std::min(sizes.num_key / (sizes.most_listed + 1), int64_t{1} << sizes.hash_code_len);
}

// Each array is rounded up to 16 bytes per head here, and once for all heads in place_buckets, which takes no more.
int64_t bucket_bytes(const BucketSizes& sizes) {
  const int64_t word = sizeof(uint32_t), num_hash = sizes.num_hash;
  return align_to_16(num_hash * crowded_capacity(sizes) * static_cast<int64_t>(sizeof(uint2))) +
         align_to_16(num_hash * sizes.num_query * word) + align_to_16(num_hash * sizes.num_key * word) +
         align_to_16(num_hash * word) + align_to_16(num_hash * first_pass_words(sizes) * word);
}

void place_buckets(CodeSortParams& params, const BucketSizes& sizes, void* workspace) {
  unsigned char* next = static_cast<unsigned char*>(workspace);
  const auto take = [&](int64_t bytes) {
    unsigned char* taken = next;
    next += align_to_16(bytes);
    return taken;
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
  params.first_pass = first_pass_words(sizes) ? take_words(sizes.num_key) : nullptr;
}

cudaError_t launch_code_sort(const CodeSortParams& params, cudaStream_t stream) {
  const Buckets& buckets = params.buckets;
  const SortLayout layout(buckets.num_key, buckets.hash_code_len);
  const int64_t rows = params.heads * buckets.num_hash;
  if (!layout.whole_row()) {  // the CTAs of a row count its crowded buckets together
    const cudaError_t error = cudaMemsetAsync(buckets.crowded_count, 0, rows * sizeof(uint32_t), stream);
    if (error != cudaSuccess) return error;
  }
  return launch(layout.whole_row() ? sort_codes<true> : sort_codes<false>,
                dim3(static_cast<unsigned>(rows << layout.part_bits)), dim3(static_cast<unsigned>(layout.threads)),
                static_cast<size_t>(layout.words()) * sizeof(uint32_t), stream, params, layout,
                can_read_by_fours(params.key_codes, params.key_mask, buckets.num_key),
                can_read_by_fours(params.query_codes, params.query_mask, buckets.num_query));
}

}  // namespace yoso::cuda
