// Scatter the keys' values into hash tables, gather the queries' rows back; one slice of 16 columns.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

template <typename T, int kAtOnce>
inline void cumulate_hashes(const Cumulation<T>& args, int64_t first_hash) {
  using V = Simd<T>;
  T* table[kAtOnce];
  const uint16_t *query_codes[kAtOnce], *key_codes[kAtOnce];
  for (int g = 0; g < kAtOnce; ++g) {
    table[g] = args.tables + g * args.table_rows * kLanes;
    query_codes[g] = args.query_codes + (first_hash + g) * args.num_query;
    key_codes[g] = args.key_codes + (first_hash + g) * args.num_key;
  }
  // Only rows that a query reads must start from zero: that bounds the cost by n where tables are larger.
  for (int g = 0; g < kAtOnce; ++g) {
    if (args.table_rows <= args.num_query) {
      for (int64_t r = 0; r < args.table_rows; ++r) V::store(table[g] + r * kLanes, typename V::Vec{});
    } else {
      for (int64_t i = 0; i < args.num_query; ++i) {
        V::store(table[g] + query_codes[g][i] * int64_t{kLanes}, typename V::Vec{});
      }
    }
  }
  for (int64_t j = 0; j < args.num_key; ++j) {
    const typename V::Vec value = V::load(args.values + j * kLanes);
    for (int g = 0; g < kAtOnce; ++g) {
      T* row = table[g] + key_codes[g][j] * int64_t{kLanes};
      V::store(row, V::load(row) + value);
    }
  }
  for (int64_t i = 0; i < args.num_query; ++i) {
    typename V::Vec sum = V::load(args.sums + i * kLanes);
    for (int g = 0; g < kAtOnce; ++g) sum += V::load(table[g] + query_codes[g][i] * int64_t{kLanes});
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
