// The sampled gradient of whole buckets: its rows are read once for all of its pairs or, where that is less work, go
// through a moment of left_dim x dim.
#pragma once

#include "pair_kernels.h"

namespace yoso {
namespace {

// The rows of one bucket. The first id is inverted.
struct BucketIds {
  const int32_t* ids;
  int64_t size;

  int64_t operator[](int64_t at) const { return at == 0 ? ~ids[0] : ids[at]; }
};

inline BucketIds bucket_of(const CodeOrder& order, int64_t code) {
  return {order.ids + order.starts[code], order.starts[code + 1] - order.starts[code]};
}

// moment[e][:] = sum_s left[s][e] right[s][:], four rows at a time, so that the moment is read and written less often.
template <typename T>
void make_moment(const PairedBuckets<T>& args, BucketIds sources, const T* rows) {
  using V = Simd<T>;
  const int64_t size = args.left_dim + args.dim;
  for (int64_t at = 0; at < args.left_dim * args.dim; at += kLanes) V::store(args.moment + at, typename V::Vec{});
  for (int64_t s = 0; s < sources.size; s += 4) {
    const T* row[4];
    T one[4];
    for (int64_t k = 0; k < 4; ++k) {
      row[k] = rows + sources[s + k < sources.size ? s + k : s] * size;
      one[k] = s + k < sources.size ? T{1} : T{0};
    }
    for (int64_t c = 0; c < args.dim; c += kLanes) {
      typename V::Vec right[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) right[k] = V::load(row[k] + args.left_dim + c) * one[k];
      for (int64_t e = 0; e < args.left_dim; ++e) {
        T* to = args.moment + e * args.dim + c;
        V::store(to, V::load(to) + (right[0] * row[0][e] + right[1] * row[1][e]) +
                         (right[2] * row[2][e] + right[3] * row[3][e]));
      }
    }
  }
}

// to[t][:] += scale sum_e left[t][e] moment[e][:], four targets at a time.
template <typename T>
void through_moment(const PairedBuckets<T>& args, BucketIds targets, const T* rows, T* to) {
  using V = Simd<T>;
  const int64_t size = args.left_dim + args.dim;
  for (int64_t t = 0; t < targets.size; t += 4) {
    const int64_t count = targets.size - t < 4 ? targets.size - t : 4;
    const T* probe[4];
    for (int64_t k = 0; k < 4; ++k) probe[k] = rows + targets[k < count ? t + k : t] * size;
    for (int64_t c = 0; c < args.dim; c += kLanes) {
      typename V::Vec sum[4] = {};
      for (int64_t e = 0; e < args.left_dim; ++e) {
        const typename V::Vec row = V::load(args.moment + e * args.dim + c);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) sum[k] += row * probe[k][e];
      }
      for (int64_t k = 0; k < count; ++k) {
        T* at = to + targets[t + k] * args.dim + c;
        V::store(at, V::load(at) + sum[k] * args.scale);
      }
    }
  }
}

// to[t] += sum_s left[s]: every target of a bucket gets the same row. The moment's memory holds it.
template <typename T>
void add_left_sum(const PairedBuckets<T>& args, BucketIds sources, const T* rows, BucketIds targets, T* to) {
  const int64_t size = args.left_dim + args.dim;
  for (int64_t e = 0; e < args.left_dim; e += kLanes) Simd<T>::store(args.moment + e, typename Simd<T>::Vec{});
  for (int64_t s = 0; s < sources.size; ++s) add_scaled(args.moment, rows + sources[s] * size, T{1}, args.left_dim);
  for (int64_t t = 0; t < targets.size; ++t) {
    add_scaled(to + targets[t] * args.left_dim, args.moment, T{1}, args.left_dim);
  }
}

// Every pair of one bucket, with parts of kSlices slices of 16 columns.
template <typename T, int kSlices>
void walk_slices(const PairedBuckets<T>& args, BucketIds queries, BucketIds keys) {
  using V = Simd<T>;
  constexpr int64_t kDim = kSlices * kLanes;
  for (int64_t a = 0; a < queries.size; ++a) {
    const T* from = args.query_rows + queries[a] * 2 * kDim;
    T* to_query = args.grad_query + queries[a] * kDim;
    typename V::Vec grad[kSlices], query[kSlices], sum[kSlices];
#pragma GCC unroll 8
    for (int c = 0; c < kSlices; ++c) {
      grad[c] = V::load(from + c * kLanes) * args.scale;
      query[c] = V::load(from + kDim + c * kLanes);
      sum[c] = V::load(to_query + c * kLanes);
    }
    for (int64_t b = 0; b < keys.size; ++b) {
      const T* row = args.key_rows + keys[b] * 2 * kDim;
      T* to_key = args.grad_key + keys[b] * kDim;
      typename V::Vec products{};
#pragma GCC unroll 8
      for (int c = 0; c < kSlices; ++c) products += grad[c] * V::load(row + c * kLanes);
      const T weight = horizontal_sum(products);
#pragma GCC unroll 8
      for (int c = 0; c < kSlices; ++c) {
        sum[c] += V::load(row + kDim + c * kLanes) * weight;
        V::store(to_key + c * kLanes, V::load(to_key + c * kLanes) + query[c] * weight);
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kSlices; ++c) V::store(to_query + c * kLanes, sum[c]);
  }
}

template <typename T>
void walk_any(const PairedBuckets<T>& args, BucketIds queries, BucketIds keys) {
  const int64_t size = args.left_dim + args.dim;
  for (int64_t a = 0; a < queries.size; ++a) {
    const T* query = args.query_rows + queries[a] * size;
    for (int64_t b = 0; b < keys.size; ++b) {
      const T* key = args.key_rows + keys[b] * size;
      const T weight = dot(query, key, args.left_dim) * args.scale;
      add_scaled(args.grad_query + queries[a] * args.dim, key + args.left_dim, weight, args.dim);
      add_scaled(args.grad_key + keys[b] * args.dim, query + args.left_dim, weight, args.dim);
    }
  }
}

template <typename T>
void walk(const PairedBuckets<T>& args, BucketIds queries, BucketIds keys) {
  switch (args.left_dim == args.dim ? args.dim / kLanes : 0) {
    case 2:
      return walk_slices<T, 2>(args, queries, keys);
    case 4:
      return walk_slices<T, 4>(args, queries, keys);
    case 8:
      return walk_slices<T, 8>(args, queries, keys);
    default:
      return walk_any(args, queries, keys);
  }
}

template <typename T>
void pair_buckets(const PairedBuckets<T>& args) {
  for (int64_t at = args.first; at < args.last; ++at) {
    const BucketIds queries = bucket_of(args.queries, args.codes[at]), keys = bucket_of(args.keys, args.codes[at]);
    // Multiply-adds: 3 d a pair, or 2 d^2 a member. The second bounds the cost of a crowded bucket by its members.
    if (3 * queries.size * keys.size > 2 * (queries.size + keys.size) * args.left_dim) {
      make_moment(args, keys, args.key_rows);
      through_moment(args, queries, args.query_rows, args.grad_query);
      make_moment(args, queries, args.query_rows);
      through_moment(args, keys, args.key_rows, args.grad_key);
    } else {
      walk(args, queries, keys);
    }
    add_left_sum(args, queries, args.query_rows, keys, args.grad_value);
  }
}

}  // namespace
}  // namespace yoso
