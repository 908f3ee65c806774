// The rescored estimator: each query lists the keys that it collides with, each once, and computes their weights; the
// gradients of the keys are then summed from the pairs, sorted by key.
#pragma once

#include "collision_kernels.h"
#include "simd.h"
#include "small_bucket_kernels.h"

namespace yoso {
namespace {

// A shared key counts as seen by every query.
constexpr int32_t kSeenByAll = 0x7fffffff;

// Lists the keys of the buckets that fit, each once and no shared key; returns how many. With kCount, adds every
// collision to hits, by the key's place among the columns and then the listed keys.
template <typename T, bool kCount>
inline int64_t list_keys(const RescoredQueries<T>& args, int64_t query) {
  const int64_t num_hash = args.keys.num_hash;
  const uint8_t* fits = args.fits + query * num_hash;
  const int32_t stamp = static_cast<int32_t>(query);
  int64_t count = 0;
  for (int64_t h = 0; h < num_hash; ++h) {
    if (!fits[h]) continue;
    const int32_t* start =
        args.keys.starts + h * (args.keys.table_rows + 2) + args.codes[h * args.codes_stride + query];
    const int32_t* ids = args.keys.ids + h * args.keys.stride;
    for (int32_t s = start[0]; s < start[1]; ++s) {
      const int32_t key = ids[s];
      const bool is_new = args.last_seen[key] < stamp;
      args.listed[count] = key;
      if (is_new) {
        prefetch_row(args.key_rows + key * (args.payload_dim + args.unit_dim), args.payload_dim + args.unit_dim);
        args.last_seen[key] = stamp;
        if constexpr (kCount) {
          args.place[key] = static_cast<int32_t>(args.columns + count);
          args.hits[args.columns + count] = T{0};
        }
        ++count;
      }
      if constexpr (kCount) args.hits[args.place[key]] += T{1};
    }
  }
  return count;
}

// The chance 1 - (1 - weight)^count that a pair collides in any of count hashes, without the cancellation of that
// formula: the chance of a or b is a + b - a b.
template <typename T>
inline typename Simd<T>::Vec chance_of_any(typename Simd<T>::Vec weight, int64_t count) {
  typename Simd<T>::Vec chance{};
  for (; count > 0; count /= 2, weight += weight * (T{1} - weight)) {
    if (count % 2) chance += weight * (T{1} - chance);
  }
  return chance;
}

// Replaces weights [total] by weight / max(chance, floor) and sets beyond to weight / chance minus that, both times
// `fraction`; returns the sum of beyond. A weight that is 0 or NaN becomes 0.
template <typename T>
inline T divide_by_chance(T* weights, T* beyond, int64_t total, int64_t count, T share, T floor, T fraction) {
  using V = Simd<T>;
  typename V::Vec sum{};
  for (int64_t k = 0; k < total; k += kLanes) {
    const typename V::Vec weight = V::load(weights + k), zero{};
    typename V::Vec chance = chance_of_any<T>(weight, count);
    chance += share * (T{1} - chance);
    const typename V::Vec capped = chance > floor ? chance : V::splat(floor);
    const typename V::Vec divided = weight > zero ? weight / capped * fraction : zero;
    const typename V::Vec missing = weight > zero ? weight / chance * fraction - divided : zero;
    sum += missing;
    V::store(weights + k, divided);
    V::store(beyond + k, missing);
  }
  return horizontal_sum(sum);
}

// sum += scale_k row_k over the listed keys, for dim columns of their rows.
template <typename T>
inline void add_listed(T* sum, const T* rows, int64_t stride, const int32_t* listed, const T* scales, int64_t count,
                       int64_t dim) {
  using V = Simd<T>;
  int64_t c = 0;
  for (; c + 4 * kLanes <= dim; c += 4 * kLanes) {  // 64 columns at a time stay in registers
    typename V::Vec total[4]{};
    for (int64_t k = 0; k < count; ++k) {
      const T* row = rows + listed[k] * stride + c;
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) total[v] += V::load(row + v * kLanes) * scales[k];
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) V::store(sum + c + v * kLanes, total[v]);
  }
  for (; c < dim; c += kLanes) {
    typename V::Vec total{};
    for (int64_t k = 0; k < count; ++k) total += V::load(rows + listed[k] * stride + c) * scales[k];
    V::store(sum + c, total);
  }
}

template <typename T, bool kBackward>
void rescored_queries(const RescoredQueries<T>& args) {
  const int64_t columns = args.columns, mean = columns - 1, num_hash = args.keys.num_hash;
  const int64_t key_stride = args.payload_dim + args.unit_dim;
  const int64_t query_stride = args.unit_dim + (kBackward ? args.payload_dim : 0);
  const T half_tau = static_cast<T>(args.hash_code_len) / 2;
  T *weights = args.weights, *beyond = args.beyond, *products = args.products, *hits = args.hits;
  for (int64_t j = 0; j < args.num_key; ++j) {
    args.last_seen[j] = args.shared_column[j] < 0 ? -1 : kSeenByAll;
    if (args.subtract) args.place[j] = args.shared_column[j];
  }
  for (int64_t i = args.first; i < args.last; ++i) {
    const int64_t row = i - args.first;
    T* column_weights = args.column_weights + row * columns;
    T* column_slopes = kBackward ? args.column_slopes + row * columns : nullptr;
    const T* query = args.query_rows + i * query_stride + (kBackward ? args.payload_dim : 0);
    int64_t fitting = 0;
    for (int64_t h = 0; h < num_hash; ++h) fitting += args.fits[i * num_hash + h];
    int64_t count = 0;
    if (args.mask && !args.mask[i]) fitting = 0;
    if (fitting > 0) {
      if (args.subtract) {
        for (int64_t k = 0; k < columns; ++k) hits[k] = T{0};
        count = list_keys<T, true>(args, i);
      } else {
        count = list_keys<T, false>(args, i);
      }
    }
    const int64_t total = columns + count;
    for (int64_t k = 0; k < columns; ++k) weights[k] = column_weights[k];
    for (int64_t k = 0; k < count; ++k) {
      const T* key = args.key_rows + args.listed[k] * key_stride;
      weights[columns + k] = dot(query, key + args.payload_dim, args.unit_dim);
      if constexpr (kBackward) {
        products[columns + k] = dot(query - args.payload_dim, key, args.payload_dim);
      }
    }
    collision(weights, total, args.hash_code_len);
    weights[mean] = T{0};
    for (int64_t k = total; k < total + kLanes; ++k) weights[k] = T{0};
    const T fraction = static_cast<T>(fitting) / static_cast<T>(num_hash);
    T missing = divide_by_chance(weights, beyond, total, fitting, args.share, args.floor, fraction);
    if (!args.rest) missing = T{0};
    if (args.subtract && fitting > 0) {
      const T inverse = T{1} / static_cast<T>(num_hash);
      for (int64_t k = 0; k < total; ++k) weights[k] -= hits[k] * inverse;
    }
    if constexpr (kBackward) {
      for (int64_t k = 0; k < columns; ++k) products[k] = column_slopes[k];
      const T of_mean = args.rest ? products[mean] : T{0};
      for (int64_t k = 0; k < total; ++k) {
        products[k] = half_tau * (weights[k] * products[k] + beyond[k] * of_mean);
      }
      products[mean] = T{0};
      for (int64_t k = 0; k < columns; ++k) column_slopes[k] = products[k];
      add_listed(args.grad_unit + row * args.unit_dim, args.key_rows + args.payload_dim, key_stride, args.listed,
                 products + columns, count, args.unit_dim);
      const int64_t at = args.offsets[i];
      args.counts[i] = count;
      for (int64_t k = 0; k < count; ++k) {
        args.pair_keys[at + k] = args.listed[k];
        args.pair_weights[at + k] = weights[columns + k];
        args.pair_slopes[at + k] = products[columns + k];
      }
    } else {
      add_listed(args.sums + row * args.payload_dim, args.key_rows, key_stride, args.listed, weights + columns, count,
                 args.payload_dim);
    }
    weights[mean] = missing;
    for (int64_t k = 0; k < columns; ++k) column_weights[k] = weights[k];
  }
}

template <typename T>
void rescored_keys(const RescoredKeys<T>& args) {
  const int64_t stride = args.payload_dim + args.unit_dim;
  for (int64_t j = args.first; j < args.last; ++j) {
    const int64_t at = args.starts[j], count = args.starts[j + 1] - at;
    T* grads = args.grads + j * stride;
    add_listed(grads, args.query_rows, stride, args.queries + at, args.weights + at, count, args.payload_dim);
    add_listed(grads + args.payload_dim, args.query_rows + args.payload_dim, stride, args.queries + at,
               args.slopes + at, count, args.unit_dim);
  }
}

}  // namespace
}  // namespace yoso
