// The phases of sort_codes (code_sort.cu) but for the scan and the radix sort: count the keys of each code, place them
// in their buckets, order them within a bucket, turn buckets into entries, and look the queries up.
//
// All threads of a CTA call a phase together. The phases share one table in shared memory with a word per code. What
// its words hold changes from phase to phase:
//
//   after               table[c] holds, for code c of the CTA's range
//   clear_table         0
//   count_keys          the number of keys with code c
//   exclusive_scan      the start of the bucket: the position of its first key among the CTA's keys
//   place_keys          the end of the bucket: the position after its last key, which is the start of the next bucket
//   make_entries        the bucket's entry (code_sort.h), 0 if it is empty
//
// order_by_neighbours needs no ends: the table is cleared before it, and it writes the entries itself.
#pragma once

#include "code_sort.h"

namespace yoso::cuda {

constexpr uint32_t kNoCode = 0xffffffffu;  // larger than any code

// A word that holds a key's id in the low kKeyBits bits and its code, relative to the CTA's range, above them. Words of
// one row compare as (code, key).
constexpr int kKeyBits = 19;

// The codes of a CTA: [first, first + count).
struct CodeRange {
  uint32_t first, count;

  // A code relative to the range. Codes outside it become `count` or more.
  __device__ uint32_t local(uint32_t code) const { return code - first; }
  __device__ bool has(uint32_t code) const { return local(code) < count; }
};

// The codes of one row, that is one (head, hash), of the key tokens or the query tokens.
struct Tokens {
  const uint16_t* codes;
  const bool* mask;  // or null
  uint32_t count;
  bool by_fours;  // count is a multiple of four and both pointers are aligned to four of their elements

  __device__ uint32_t code(uint32_t token) const { return !mask || mask[token] ? codes[token] : kNoCode; }

  // The codes of tokens first ... first + 3; kNoCode for masked tokens and beyond the last token.
  __device__ void load_four(uint32_t first, uint32_t (&code)[4]) const {
    if (by_fours) {
      const uint2 words = *reinterpret_cast<const uint2*>(codes + first);
      const uint32_t real = mask ? *reinterpret_cast<const uint32_t*>(mask + first) : kNoCode;
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        code[u] = (u < 2 ? words.x : words.y) >> u % 2 * 16 & 0xffffu;
        if ((real >> u * 8 & 0xffu) == 0) code[u] = kNoCode;
      }
    } else {
#pragma unroll
      for (uint32_t u = 0; u < 4; ++u) {
        code[u] = first + u < count ? this->code(first + u) : kNoCode;
      }
    }
  }

  // Calls f(token, code) for every token, and for up to three tokens beyond the last with kNoCode. A thread takes four
  // consecutive tokens at a time.
  template <typename F>
  __device__ void for_each(F f) const {
#pragma unroll 2
    for (uint32_t first = 4 * threadIdx.x; first < count; first += 4 * blockDim.x) {
      uint32_t code[4];
      load_four(first, code);
#pragma unroll
      for (uint32_t u = 0; u < 4; ++u) f(first + u, code[u]);
    }
  }
};

// Makes the entry of a bucket of `count` keys. `first` is the position of its first key among all keys of the row, and
// `key` is that key's id, which only a bucket of one key needs.
struct EntryMaker {
  const Buckets& buckets;
  uint32_t row;
  uint32_t* crowded_count;  // in shared memory if the CTA has the whole row, else the row's in global memory

  __device__ uint32_t operator()(uint32_t first, uint32_t count, uint32_t key) const {
    if (count == 0) return 0;
    if (count == 1) return key << kEntryShift | count;
    if (count <= buckets.most_listed) return first << kEntryShift | count;
    // The order of crowded buckets in the list depends on the order of threads; what is computed for each does not.
    const uint32_t place = atomicAdd(crowded_count, 1u);
    buckets.crowded[row * buckets.crowded_capacity + place] = make_uint2(first, count);
    return place << kEntryShift | kCrowded;
  }
};

// Ends with a barrier.
__device__ inline void clear_table(uint32_t* table, uint32_t table_words) {
  for (uint32_t v = threadIdx.x; v < table_words / 4; v += blockDim.x) {
    reinterpret_cast<uint4*>(table)[v] = make_uint4(0, 0, 0, 0);
  }
  __syncthreads();
}

// Table of zeros to counts. Returns how many of this thread's keys have codes below the range; not computed, and 0, if
// the CTA has the whole row.
template <bool kWholeRow>
__device__ inline uint32_t count_keys(const Tokens& keys, CodeRange range, uint32_t* table) {
  uint32_t smaller = 0;
  keys.for_each([&](uint32_t, uint32_t code) {
    if (range.has(code)) atomicAdd(&table[range.local(code)], 1u);
    if constexpr (!kWholeRow) smaller += code < range.first ? 1 : 0;
  });
  return smaller;
}

// Table of starts to ends. Unless the radix sort follows, which needs only the ends, writes each key to a position in
// its bucket, in any order within the bucket: its id if the CTA has the whole row, else code and id (kKeyBits).
template <bool kWholeRow>
__device__ inline void place_keys(const Tokens& keys, CodeRange range, bool only_ends, uint32_t* table,
                                  uint32_t* placed) {
  keys.for_each([&](uint32_t key, uint32_t code) {
    if (!range.has(code)) return;
    const uint32_t local = range.local(code);
    const uint32_t position = atomicAdd(&table[local], 1u);
    if (!only_ends) placed[position] = kWholeRow ? key : local << kKeyBits | key;
  });
}

// For a CTA that has the whole row: writes the ids in `placed` to `ordered`, ascending within each bucket. Every key
// finds its bucket in the table of ends and counts the smaller keys in it.
__device__ inline void order_by_table(const Tokens& keys, CodeRange range, const uint32_t* table,
                                      const uint32_t* placed, uint32_t* ordered) {
  keys.for_each([&](uint32_t key, uint32_t code) {
    if (code >= range.count) return;
    const uint32_t first = code > 0 ? table[code - 1] : 0, end = table[code];
    uint32_t position = first;
    if (end - first > 1) {
#pragma unroll 2
      for (uint32_t p = first; p < end; ++p) position += placed[p] < key ? 1 : 0;
    }
    ordered[position] = key;
  });
}

// For a CTA that shares its row, and has so few of the keys that reading all codes again would cost more: takes
// `total` words of code and id (kKeyBits), ordered by code alone, writes their ids to `ids`, ascending within each
// bucket, and the buckets' entries to a cleared table. Every key compares itself with its neighbours of the same code.
// `before` keys of the row have codes below the CTA's range.
__device__ inline void order_by_neighbours(const uint32_t* placed, uint32_t total, uint32_t before, uint32_t* ids,
                                           uint32_t* table, const EntryMaker& make_entry) {
  for (uint32_t p = threadIdx.x; p < total; p += blockDim.x) {
    const uint32_t word = placed[p], code = word >> kKeyBits, key = word & ((1u << kKeyBits) - 1);
    uint32_t position = p, first = p, end = p + 1;
    for (; first > 0; --first) {
      const uint32_t neighbour = placed[first - 1];
      if (neighbour >> kKeyBits != code) break;
      position -= neighbour > word ? 1 : 0;
    }
    for (; end < total; ++end) {
      const uint32_t neighbour = placed[end];
      if (neighbour >> kKeyBits != code) break;
      position += neighbour < word ? 1 : 0;
    }
    ids[position] = key;
    if (first == p) table[code] = make_entry(before + first, end - first, key);
  }
}

// Table of ends to entries, four at a time. An entry needs the end before it, so the CTA processes the table from its
// end to its beginning, and a barrier separates the reads of a step from its writes. `ids` are the CTA's keys in order.
// The caller has a barrier before and after.
__device__ inline void make_entries(uint32_t table_words, uint32_t before, const uint32_t* ids, uint32_t* table,
                                    const EntryMaker& make_entry) {
  const auto entry = [&](uint32_t first, uint32_t end) {
    return make_entry(before + first, end - first, end - first == 1 ? ids[first] : 0);
  };
  auto* fours = reinterpret_cast<uint4*>(table);
  const uint32_t num_fours = table_words / 4;
  for (int step = static_cast<int>((num_fours - 1) / blockDim.x); step >= 0; --step) {
    const uint32_t own = step * blockDim.x + threadIdx.x;
    const uint32_t first = 0 < own && own < num_fours ? table[4 * own - 1] : 0;
    const uint4 end = own < num_fours ? fours[own] : make_uint4(0, 0, 0, 0);
    __syncthreads();
    if (own >= num_fours) continue;
    fours[own] = make_uint4(entry(first, end.x), entry(end.x, end.y), entry(end.y, end.z), entry(end.z, end.w));
  }
}

// Writes the entry of every query whose code is in the range. A code of too many bits is in no CTA's range: the CTA
// whose range starts at 0 writes those entries, which are 0.
template <bool kWholeRow>
__device__ void look_up_queries(const Tokens& queries, CodeRange range, int hash_code_len, const uint32_t* table,
                                uint32_t* entries) {
  const auto entry = [&](uint32_t code) { return range.has(code) ? table[range.local(code)] : 0; };
  if (kWholeRow && queries.by_fours) {
#pragma unroll 2
    for (uint32_t first = 4 * threadIdx.x; first < queries.count; first += 4 * blockDim.x) {
      uint32_t code[4];
      queries.load_four(first, code);
      *reinterpret_cast<uint4*>(entries + first) =
          make_uint4(entry(code[0]), entry(code[1]), entry(code[2]), entry(code[3]));
    }
    return;
  }
  // Neighbouring lanes take neighbouring queries, so that few 32-byte sectors are written by more than one CTA.
#pragma unroll 4
  for (uint32_t query = threadIdx.x; query < queries.count; query += blockDim.x) {
    const uint32_t code = queries.code(query);
    if (range.has(code) || (range.first == 0 && code >> hash_code_len != 0)) entries[query] = entry(code);
  }
}

}  // namespace yoso::cuda
