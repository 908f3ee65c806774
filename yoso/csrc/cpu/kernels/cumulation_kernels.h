// lsh_cumulation of one slice of 16 columns: scatter-adds the values into hash tables by the keys' codes, then gathers
// and adds table rows by the queries' codes.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

// kAtOnce hashes, each with its own table, in one pass over the values and one over the sums.
template <typename T, int kAtOnce>
inline void cumulate_hashes(const Cumulation<T>& args, int64_t first_hash) {
  using V = Simd<T>;
  T* table[kAtOnce];
  const uint16_t *query_codes[kAtOnce], *key_codes[kAtOnce];
  for (int t = 0; t < kAtOnce; ++t) {
    table[t] = args.tables + t * args.table_rows * kLanes;
    query_codes[t] = args.query_codes + (first_hash + t) * args.num_query;
    key_codes[t] = args.key_codes + (first_hash + t) * args.num_key;
  }
  // Only table rows that a query reads must be zeroed. Where a table has more rows than there are queries, zeroing
  // only those bounds the cost by n.
  for (int t = 0; t < kAtOnce; ++t) {
    if (args.table_rows <= args.num_query) {
      for (int64_t r = 0; r < args.table_rows; ++r) V::store(table[t] + r * kLanes, typename V::Vec{});
    } else {
      for (int64_t i = 0; i < args.num_query; ++i) {
        V::store(table[t] + query_codes[t][i] * int64_t{kLanes}, typename V::Vec{});
      }
    }
  }
  for (int64_t j = 0; j < args.num_key; ++j) {
    const typename V::Vec value = V::load(args.values + j * kLanes);
    for (int t = 0; t < kAtOnce; ++t) {
      T* row = table[t] + key_codes[t][j] * int64_t{kLanes};
      V::store(row, V::load(row) + value);
    }
  }
  for (int64_t i = 0; i < args.num_query; ++i) {
    typename V::Vec sum = V::load(args.sums + i * kLanes);
    for (int t = 0; t < kAtOnce; ++t) sum += V::load(table[t] + query_codes[t][i] * int64_t{kLanes});
    V::store(args.sums + i * kLanes, sum);
  }
}

template <typename T>
void cumulate_slice(const Cumulation<T>& args) {
  int64_t hash = 0;
  for (; args.hashes_at_once >= 8 && hash + 8 <= args.num_hash; hash += 8) cumulate_hashes<T, 8>(args, hash);
  for (; args.hashes_at_once >= 4 && hash + 4 <= args.num_hash; hash += 4) cumulate_hashes<T, 4>(args, hash);
  for (; args.hashes_at_once >= 2 && hash + 2 <= args.num_hash; hash += 2) cumulate_hashes<T, 2>(args, hash);
  for (; hash < args.num_hash; ++hash) cumulate_hashes<T, 1>(args, hash);
}

}  // namespace
}  // namespace yoso
