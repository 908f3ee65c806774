// The sampled gradient of query and key: bucket by bucket, pair by pair or, where that is less work, through a d x d
// moment.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

template <typename T>
inline void add_scaled(T* to, const T* from, T by, int64_t dim) {
  for (int64_t c = 0; c < dim; c += kLanes) {
    Simd<T>::store(to + c, Simd<T>::load(to + c) + Simd<T>::load(from + c) * by);
  }
}

// moment[e][:] = sum_s left[s][e] right[s][:]; then to[r][:] += scale sum_e probe[r][e] moment[e][:].
template <typename T>
void through_moment(const CollidingPairs<T>& args, const int32_t* source_ids, int64_t sources, HeadRows<T> left,
                    HeadRows<T> right, const int32_t* target_ids, int64_t targets, HeadRows<T> probe, T* to) {
  for (int64_t at = 0; at < args.value_dim * args.dim; at += kLanes) {
    Simd<T>::store(args.moment + at, typename Simd<T>::Vec{});
  }
  for (int64_t s = 0; s < sources; ++s) {
    const T *l = left[source_ids[s]], *r = right[source_ids[s]];
    for (int64_t e = 0; e < args.value_dim; ++e) add_scaled<T>(args.moment + e * args.dim, r, l[e], args.dim);
  }
  for (int64_t r = 0; r < targets; ++r) {
    const T* p = probe[target_ids[r]];
    for (int64_t e = 0; e < args.value_dim; ++e) {
      add_scaled<T>(to + target_ids[r] * args.dim, args.moment + e * args.dim, p[e] * args.scale, args.dim);
    }
  }
}

// The pairs of one query with the keys of its bucket, with kSlices slices of 16 columns known at compile time.
template <typename T, int kSlices>
inline void visit_row(const CollidingPairs<T>& args, int64_t i, const int32_t* key_ids, int64_t num_key) {
  using V = Simd<T>;
  typename V::Vec grad[kSlices], query[kSlices], sum[kSlices];
#pragma GCC unroll 8
  for (int c = 0; c < kSlices; ++c) {
    grad[c] = V::load(args.grads[i] + c * kLanes) * args.scale;
    query[c] = V::load(args.queries[i] + c * kLanes);
    sum[c] = V::load(args.grad_queries + (i * kSlices + c) * kLanes);
  }
  for (int64_t b = 0; b < num_key; ++b) {
    const int64_t j = key_ids[b];
    const T *value = args.values[j], *key = args.keys[j];
    T* to = args.grad_keys + j * kSlices * kLanes;
    typename V::Vec products = grad[0] * V::load(value);
#pragma GCC unroll 8
    for (int c = 1; c < kSlices; ++c) products += grad[c] * V::load(value + c * kLanes);
    const T weight = horizontal_sum(products);
#pragma GCC unroll 8
    for (int c = 0; c < kSlices; ++c) {
      sum[c] += V::load(key + c * kLanes) * weight;
      V::store(to + c * kLanes, V::load(to + c * kLanes) + query[c] * weight);
    }
  }
#pragma GCC unroll 8
  for (int c = 0; c < kSlices; ++c) V::store(args.grad_queries + (i * kSlices + c) * kLanes, sum[c]);
}

// The same for any dim and value_dim.
template <typename T>
inline void visit_any_row(const CollidingPairs<T>& args, int64_t i, const int32_t* key_ids, int64_t num_key) {
  for (int64_t b = 0; b < num_key; ++b) {
    const int64_t j = key_ids[b];
    typename Simd<T>::Vec products{};
    for (int64_t c = 0; c < args.value_dim; c += kLanes) {
      products += Simd<T>::load(args.grads[i] + c) * args.scale * Simd<T>::load(args.values[j] + c);
    }
    const T weight = horizontal_sum(products);
    add_scaled<T>(args.grad_queries + i * args.dim, args.keys[j], weight, args.dim);
    add_scaled<T>(args.grad_keys + j * args.dim, args.queries[i], weight, args.dim);
  }
}

template <typename T>
inline void prefetch_row(const T* row, int64_t dim) {
  for (int64_t c = 0; c < dim; c += kLanes) __builtin_prefetch(row + c);
}

// The rows that a bucket's first pair needs: they lie anywhere, and the sort has just said where.
template <typename T>
inline void prefetch_bucket(const CollidingPairs<T>& args, int64_t code) {
  if (args.query_order.size(code) == 0 || args.key_order.size(code) == 0) return;
  const int64_t i = args.query_order.ids[args.query_order.starts[code]];
  const int64_t j = args.key_order.ids[args.key_order.starts[code]];
  prefetch_row(args.grads[i], args.value_dim);
  prefetch_row(args.queries[i], args.dim);
  prefetch_row(args.grad_queries + i * args.dim, args.dim);
  prefetch_row(args.values[j], args.value_dim);
  prefetch_row(args.keys[j], args.dim);
  prefetch_row(args.grad_keys + j * args.dim, args.dim);
}

template <typename T>
void visit_all_pairs(const CollidingPairs<T>& args) {
  constexpr int64_t kAhead = 4;
  for (int64_t code = 0; code < args.table_rows; ++code) {
    if (code + kAhead < args.table_rows) prefetch_bucket(args, code + kAhead);
    const int64_t num_query = args.query_order.size(code), num_key = args.key_order.size(code);
    if (num_query == 0 || num_key == 0) continue;
    const int32_t* query_ids = args.query_order.ids + args.query_order.starts[code];
    const int32_t* key_ids = args.key_order.ids + args.key_order.starts[code];
    // Multiply-adds: 3 d a pair, or 2 d^2 a member. The second bounds the cost of a crowded bucket by its members.
    if (3 * num_query * num_key > 2 * (num_query + num_key) * args.value_dim) {
      through_moment(args, key_ids, num_key, args.values, args.keys, query_ids, num_query, args.grads,
                     args.grad_queries);
      through_moment(args, query_ids, num_query, args.grads, args.queries, key_ids, num_key, args.values,
                     args.grad_keys);
      continue;
    }
    const int64_t slices = args.dim == args.value_dim ? args.dim / kLanes : 0;
    for (int64_t a = 0; a < num_query; ++a) {
      if (slices == 4) {
        visit_row<T, 4>(args, query_ids[a], key_ids, num_key);
      } else if (slices == 2) {
        visit_row<T, 2>(args, query_ids[a], key_ids, num_key);
      } else if (slices == 8) {
        visit_row<T, 8>(args, query_ids[a], key_ids, num_key);
      } else {
        visit_any_row(args, query_ids[a], key_ids, num_key);
      }
    }
  }
}

}  // namespace
}  // namespace yoso
