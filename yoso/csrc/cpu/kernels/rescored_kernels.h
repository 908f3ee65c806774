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

// Lists the keys of the buckets that fit, each once and no shared key, and prefetches their rows; `query` is number
// `target` of those that were looked up. There is no branch that depends on whether a key was seen before, which cannot
// be predicted.
template <typename T>
inline void list_keys(const RescoredQueries<T>& args, int64_t query, int64_t target, ListedKeys& listed) {
  const int64_t num_hash = args.keys.num_hash, row_size = args.payload_dim + args.unit_dim;
  const uint8_t* fits = args.fits + query * num_hash;
  int32_t* found = args.found;
  int64_t num_found = 0;
  for (int64_t h = 0; h < num_hash; ++h) {
    const BucketHead& head = args.heads[h * kQueriesPerLookup + target];
    if (!fits[h]) continue;
    __builtin_memcpy(found + num_found, head.first_ids, sizeof(head.first_ids));
    const int32_t* ids = args.keys.ids + h * args.keys.stride + head.start;
    for (int32_t s = 4; s < head.size; ++s) found[num_found + s] = ids[s];
    num_found += head.size;
  }
  const int32_t stamp = static_cast<int32_t>(query);
  int64_t count = 0;
  for (int64_t f = 0; f < num_found; ++f) {
    const int32_t key = found[f], seen = args.last_seen[key];
    const bool is_new = seen < stamp;
    prefetch_row(args.key_rows + key * row_size, row_size);
    listed.ids[count] = key;
    args.last_seen[key] = is_new ? stamp : seen;
    count += is_new;
  }
  listed.count = count;
}

// The buckets of the queries from i on: one hash after the other and without branches, so that many of the random reads
// are in flight at once.
template <typename T>
inline void look_up_all(const RescoredQueries<T>& args, int64_t i) {
  const int64_t left = args.last - i, queries = left < kQueriesPerLookup ? left : int64_t{kQueriesPerLookup};
  for (int64_t h = 0; h < args.keys.num_hash; ++h) {
    const int32_t* starts = args.keys.starts + h * (args.keys.table_rows + 2);
    const int32_t* ids = args.keys.ids + h * args.keys.stride;
    for (int64_t t = 0; t < queries; ++t) {
      BucketHead& head = args.heads[h * kQueriesPerLookup + t];
      head.start = starts[args.codes[h * args.codes_stride + i + t]];
      head.size = starts[args.codes[h * args.codes_stride + i + t] + 1] - head.start;
      __builtin_memcpy(head.first_ids, ids + head.start, sizeof(head.first_ids));
    }
  }
}

// Looks up and lists the keys of query i, for queries in order.
template <typename T>
inline void list_next(const RescoredQueries<T>& args, int64_t i, ListedKeys& listed) {
  const int64_t target = (i - args.first) % kQueriesPerLookup;
  if (target == 0) look_up_all(args, i);
  listed.count = 0;
  if (args.mask && !args.mask[i]) return;
  list_keys(args, i, target, listed);
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

// sum = sum_k scale(k) row(k) over count rows, for dim columns.
template <typename T, typename Row, typename Scale>
inline void add_rows(T* sum, int64_t count, int64_t dim, Row row, Scale scale) {
  using V = Simd<T>;
  int64_t c = 0;
  for (; c + 4 * kLanes <= dim; c += 4 * kLanes) {  // 64 columns at a time stay in registers
    typename V::Vec total[4]{};
    for (int64_t k = 0; k < count; ++k) {
      const T* from = row(k) + c;
      const T factor = scale(k);
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v) total[v] += V::load(from + v * kLanes) * factor;
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; ++v) V::store(sum + c + v * kLanes, total[v]);
  }
  for (; c < dim; c += kLanes) {
    typename V::Vec total{};
    for (int64_t k = 0; k < count; ++k) total += V::load(row(k) + c) * scale(k);
    V::store(sum + c, total);
  }
}

template <typename T, bool kBackward>
void rescored_queries(const RescoredQueries<T>& args) {
  const int64_t columns = args.columns, mean = columns - 1, num_hash = args.keys.num_hash;
  const int64_t key_stride = args.payload_dim + args.unit_dim;
  const int64_t query_stride = args.unit_dim + (kBackward ? args.payload_dim : 0);
  const T half_tau = static_cast<T>(args.hash_code_len) / 2;
  T *weights = args.weights, *beyond = args.beyond, *products = args.products;
  ListedKeys lists[2] = {args.listed[0], args.listed[1]};
  for (int64_t j = 0; j < args.num_key; ++j) {
    args.last_seen[j] = args.shared_column[j] < 0 ? -1 : kSeenByAll;
  }
  if (args.first < args.last) list_next(args, args.first, lists[0]);
  for (int64_t i = args.first; i < args.last; ++i) {
    const int64_t row = i - args.first;
    // The next query's keys are listed first, so that their rows are prefetched while this one's are read.
    if (i + 1 < args.last) list_next(args, i + 1, lists[(row + 1) % 2]);
    const ListedKeys& list = lists[row % 2];
    const int32_t* listed = list.ids;
    const int64_t count = list.count;
    T* column_weights = args.column_weights + row * columns;
    T* column_slopes = kBackward ? args.column_slopes + row * columns : nullptr;
    const T* query = args.query_rows + i * query_stride + (kBackward ? args.payload_dim : 0);
    int64_t fitting = 0;
    for (int64_t h = 0; h < num_hash; ++h) fitting += args.fits[i * num_hash + h];
    if (args.mask && !args.mask[i]) fitting = 0;
    const int64_t total = columns + count;
    for (int64_t k = 0; k < columns; ++k) weights[k] = column_weights[k];
    for (int64_t k = 0; k < count; ++k) {
      const T* key = args.key_rows + listed[k] * key_stride;
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
    if constexpr (kBackward) {
      for (int64_t k = 0; k < columns; ++k) products[k] = column_slopes[k];
      const T of_mean = args.rest ? products[mean] : T{0};
      for (int64_t k = 0; k < total; ++k) {
        products[k] = half_tau * (weights[k] * products[k] + beyond[k] * of_mean);
      }
      products[mean] = T{0};
      for (int64_t k = 0; k < columns; ++k) column_slopes[k] = products[k];
      add_rows(
          args.grad_unit + row * args.unit_dim, count, args.unit_dim,
          [&](int64_t k) { return args.key_rows + listed[k] * key_stride + args.payload_dim; },
          [&](int64_t k) { return products[columns + k]; });
      args.counts[i] = count;
      for (int64_t k = 0; k < count; ++k) {
        args.pairs[args.offsets[i] + k] = {listed[k], weights[columns + k], products[columns + k]};
      }
    } else {
      add_rows(
          args.sums + row * args.payload_dim, count, args.payload_dim,
          [&](int64_t k) { return args.key_rows + listed[k] * key_stride; },
          [&](int64_t k) { return weights[columns + k]; });
    }
    weights[mean] = missing;
    for (int64_t k = 0; k < columns; ++k) column_weights[k] = weights[k];
  }
}

template <typename T>
void rescored_keys(const RescoredKeys<T>& args) {
  const int64_t stride = args.payload_dim + args.unit_dim, end = args.starts[args.last];
  for (int64_t j = args.first; j < args.last; ++j) {
    const int64_t at = args.starts[j], count = args.starts[j + 1] - at;
    T* grads = args.grads + j * stride;
    const auto row = [&](int64_t k) { return args.query_rows + args.pairs[at + k].other * stride; };
    add_rows(
        grads, count, args.payload_dim,
        [&](int64_t k) {
          if (at + k + kPrefetchDistance < end) prefetch_row(row(k + kPrefetchDistance), stride);
          return row(k);
        },
        [&](int64_t k) { return args.pairs[at + k].weight; });
    add_rows(
        grads + args.payload_dim, count, args.unit_dim, [&](int64_t k) { return row(k) + args.payload_dim; },
        [&](int64_t k) { return args.pairs[at + k].slope; });
  }
}

}  // namespace
}  // namespace yoso
