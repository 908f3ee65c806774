// Keys that stand in their buckets in any order are put in order, and buckets become entries.
#pragma once

#include "code_sort.h"
#include "code_sort_tokens.cuh"

namespace yoso::cuda {

constexpr int kKeyBits = 19;  // of a word that holds a code above a key

// An entry for a bucket of `count` keys of which the first, of all the (head, hash)'s, is the first-th, and is `key`.
struct EntryMaker {
  const Buckets& buckets;
  uint32_t index;
  uint32_t* crowded_count;  // the block's own, or the (head, hash)'s where blocks share it

  __device__ uint32_t operator()(uint32_t first, uint32_t count, uint32_t key) const {
    if (count == 0) return 0;
    if (count == 1) return key << kEntryShift | count;
    if (count <= buckets.most_listed) return first << kEntryShift | count;
    // Which bucket gets which place depends on the order of threads; what is computed for it does not.
    const uint32_t place = atomicAdd(crowded_count, 1u);
    buckets.crowded[index * buckets.crowded_capacity + place] = make_uint2(first, count);
    return place << kEntryShift | kCrowded;
  }
};

// Of a block that has all keys: `keys`, in the buckets whose ends the table has, to `ids` in order. Each key counts the
// smaller ones of its bucket.
__device__ inline void order_by_table(const Tokens& tokens, uint32_t num_codes, const uint32_t* table,
                                      const uint32_t* keys, uint32_t* ids) {
  tokens.for_each([&](uint32_t token, uint32_t code) {
    if (code >= num_codes) return;
    const uint32_t first = code > 0 ? table[code - 1] : 0, end = table[code];
    uint32_t place = first;
    if (end - first > 1) {
#pragma unroll 2
      for (uint32_t p = first; p < end; ++p) place += keys[p] < token ? 1 : 0;
    }
    ids[place] = token;
  });
}

// Of a block that has few of the keys, so that going through all of them again costs more:
// of `total` words, code << kKeyBits | key, ordered by code alone: writes the keys' ids in order, and the entries of
// their codes. `before` keys have smaller codes than the block's.
__device__ inline void order_by_neighbours(const uint32_t* words, uint32_t total, uint32_t before, uint32_t* ids,
                                           uint32_t* table, const EntryMaker& make_entry) {
  for (uint32_t p = threadIdx.x; p < total; p += blockDim.x) {
    const uint32_t word = words[p], code = word >> kKeyBits, key = word & ((1u << kKeyBits) - 1);
    uint32_t place = p, first = p, end = p + 1;
    for (; first > 0; --first) {
      const uint32_t other = words[first - 1];
      if (other >> kKeyBits != code) break;
      place -= other > word ? 1 : 0;
    }
    for (; end < total; ++end) {
      const uint32_t other = words[end];
      if (other >> kKeyBits != code) break;
      place += other < word ? 1 : 0;
    }
    ids[place] = key;
    if (first == p) table[code] = make_entry(before + first, end - first, key);
  }
}

// Makes a table of where buckets end one of entries, four at a time. Each entry needs the end before it, so the block
// goes through the table downwards, reading before it writes. `ids` are the block's keys in order; it meets before and
// after.
__device__ inline void make_entries(uint32_t table_words, uint32_t before, const uint32_t* ids, uint32_t* table,
                                    const EntryMaker& make_entry) {
  const auto entry = [&](uint32_t first, uint32_t end) {
    return make_entry(before + first, end - first, end - first == 1 ? ids[first] : 0);
  };
  auto* fours = reinterpret_cast<uint4*>(table);
  const uint32_t num_fours = table_words / 4;
  for (int tile = static_cast<int>((num_fours - 1) / blockDim.x); tile >= 0; --tile) {
    const uint32_t own = tile * blockDim.x + threadIdx.x;
    const uint32_t first = 0 < own && own < num_fours ? table[4 * own - 1] : 0;
    const uint4 end = own < num_fours ? fours[own] : make_uint4(0, 0, 0, 0);
    __syncthreads();
    if (own >= num_fours) continue;
    fours[own] = make_uint4(entry(first, end.x), entry(end.x, end.y), entry(end.y, end.z), entry(end.z, end.w));
  }
}

}  // namespace yoso::cuda
