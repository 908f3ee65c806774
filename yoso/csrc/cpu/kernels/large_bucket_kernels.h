// The sampled gradient from large buckets, one whole bucket at a time: either pair by pair, while the rows of the
// bucket are in cache, or, where that takes fewer multiply-adds, through a moment: the payload_dim x unit_dim matrix
// that is the sum of the outer products of the sources' payloads and units.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

// The row ids of one large bucket, whose first id is stored as its bitwise complement.
struct BucketIds {
  const int32_t* ids;
  int64_t size;

  int64_t operator[](int64_t i) const { return i == 0 ? ~ids[0] : ids[i]; }
};

inline BucketIds bucket_of(const Buckets& buckets, int64_t code) {
  return {buckets.ids + buckets.starts[code], buckets.starts[code + 1] - buckets.starts[code]};
}

// moment[e][:] = sum_s payload[s][e] unit[s][:]. Four rows at a time, so that the moment is read and written a quarter
// as often. The last group is filled up with repeated rows of factor 0.
template <typename T>
void compute_moment(const LargeBucketGradient<T>& args, BucketIds sources, const T* rows) {
  using V = Simd<T>;
  const int64_t size = args.payload_dim + args.unit_dim;
  for (int64_t at = 0; at < args.payload_dim * args.unit_dim; at += kLanes)
    V::store(args.moment + at, typename V::Vec{});
  for (int64_t s = 0; s < sources.size; s += 4) {
    const T* row[4];
    T factor[4];
    for (int64_t k = 0; k < 4; ++k) {
      row[k] = rows + sources[s + k < sources.size ? s + k : s] * size;
      factor[k] = s + k < sources.size ? T{1} : T{0};
    }
    for (int64_t c = 0; c < args.unit_dim; c += kLanes) {
      typename V::Vec unit[4];
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) unit[k] = V::load(row[k] + args.payload_dim + c) * factor[k];
      for (int64_t e = 0; e < args.payload_dim; ++e) {
        T* to = args.moment + e * args.unit_dim + c;
        V::store(to, V::load(to) + (unit[0] * row[0][e] + unit[1] * row[1][e]) +
                         (unit[2] * row[2][e] + unit[3] * row[3][e]));
      }
    }
  }
}

// grad_unit[t][:] += scale sum_e payload[t][e] moment[e][:], four targets at a time.
template <typename T>
void apply_moment(const LargeBucketGradient<T>& args, BucketIds targets, const T* rows, T* grad_unit) {
  using V = Simd<T>;
  const int64_t size = args.payload_dim + args.unit_dim;
  for (int64_t t = 0; t < targets.size; t += 4) {
    const int64_t count = targets.size - t < 4 ? targets.size - t : 4;
    const T* payload[4];
    for (int64_t k = 0; k < 4; ++k) payload[k] = rows + targets[k < count ? t + k : t] * size;
    for (int64_t c = 0; c < args.unit_dim; c += kLanes) {
      typename V::Vec sum[4] = {};
      for (int64_t e = 0; e < args.payload_dim; ++e) {
        const typename V::Vec row = V::load(args.moment + e * args.unit_dim + c);
#pragma GCC unroll 4
        for (int k = 0; k < 4; ++k) sum[k] += row * payload[k][e];
      }
      for (int64_t k = 0; k < count; ++k) {
        T* to = grad_unit + targets[t + k] * args.unit_dim + c;
        V::store(to, V::load(to) + sum[k] * args.scale);
      }
    }
  }
}

// grad_payload[t] += sum_s payload[s]. Every target of the bucket gets the same sum, which is made in the moment's
// memory.
template <typename T>
void add_payload_sum(const LargeBucketGradient<T>& args, BucketIds sources, const T* rows, BucketIds targets,
                     T* grad_payload) {
  const int64_t size = args.payload_dim + args.unit_dim;
  for (int64_t e = 0; e < args.payload_dim; e += kLanes) Simd<T>::store(args.moment + e, typename Simd<T>::Vec{});
  for (int64_t s = 0; s < sources.size; ++s) add_scaled(args.moment, rows + sources[s] * size, T{1}, args.payload_dim);
  for (int64_t t = 0; t < targets.size; ++t) {
    add_scaled(grad_payload + targets[t] * args.payload_dim, args.moment, T{1}, args.payload_dim);
  }
}

// Every pair of one bucket; payload_dim == unit_dim == kSlices * 16, known at compile time.
template <typename T, int kSlices>
void add_pairs_of_slices(const LargeBucketGradient<T>& args, BucketIds queries, BucketIds keys) {
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

// Every pair of one bucket, for any payload_dim and unit_dim.
template <typename T>
void add_pairs_of_any_dim(const LargeBucketGradient<T>& args, BucketIds queries, BucketIds keys) {
  const int64_t size = args.payload_dim + args.unit_dim;
  for (int64_t a = 0; a < queries.size; ++a) {
    const T* query = args.query_rows + queries[a] * size;
    for (int64_t b = 0; b < keys.size; ++b) {
      const T* key = args.key_rows + keys[b] * size;
      const T weight = dot(query, key, args.payload_dim) * args.scale;
      add_scaled(args.grad_query + queries[a] * args.unit_dim, key + args.payload_dim, weight, args.unit_dim);
      add_scaled(args.grad_key + keys[b] * args.unit_dim, query + args.payload_dim, weight, args.unit_dim);
    }
  }
}

template <typename T>
void add_pairs(const LargeBucketGradient<T>& args, BucketIds queries, BucketIds keys) {
  switch (args.payload_dim == args.unit_dim ? args.unit_dim / kLanes : 0) {
    case 2:
      return add_pairs_of_slices<T, 2>(args, queries, keys);
    case 4:
      return add_pairs_of_slices<T, 4>(args, queries, keys);
    case 8:
      return add_pairs_of_slices<T, 8>(args, queries, keys);
    default:
      return add_pairs_of_any_dim(args, queries, keys);
  }
}

template <typename T>
void large_buckets(const LargeBucketGradient<T>& args) {
  for (int64_t i = args.first; i < args.last; ++i) {
    const BucketIds queries = bucket_of(args.queries, args.codes[i]), keys = bucket_of(args.keys, args.codes[i]);
    // 3 d multiply-adds per pair, or 2 d^2 per query and key with the moment, which bounds the cost of a bucket
    // linearly in its size.
    if (3 * queries.size * keys.size > 2 * (queries.size + keys.size) * args.payload_dim) {
      compute_moment(args, keys, args.key_rows);
      apply_moment(args, queries, args.query_rows, args.grad_query);
      compute_moment(args, queries, args.query_rows);
      apply_moment(args, keys, args.key_rows, args.grad_key);
    } else {
      add_pairs(args, queries, keys);
    }
    add_payload_sum(args, queries, args.query_rows, keys, args.grad_value);
  }
}

}  // namespace
}  // namespace yoso
