// The gradient of query and key within one bucket: pair by pair, or through a d x d moment where that is less work.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

template <typename T>
inline T dot(const T* a, const T* b, int64_t dim) {
  typename Simd<T>::Vec sum{};
  for (int64_t c = 0; c < dim; c += kLanes) sum += Simd<T>::load(a + c) * Simd<T>::load(b + c);
  return horizontal_sum<T>(sum);
}

template <typename T>
inline void add_scaled(T* to, const T* from, T by, int64_t dim) {
  for (int64_t c = 0; c < dim; c += kLanes) {
    Simd<T>::store(to + c, Simd<T>::load(to + c) + Simd<T>::load(from + c) * by);
  }
}

// moment[e][:] = sum_s left[s][e] right[s][:]; then to[r][:] += scale sum_e probe[r][e] moment[e][:].
template <typename T>
void through_moment(const Bucket<T>& args, const int32_t* source_ids, int64_t sources, const T* left, const T* right,
                    const int32_t* target_ids, int64_t targets, const T* probe, T* to) {
  for (int64_t at = 0; at < args.value_dim * args.dim; at += kLanes) {
    Simd<T>::store(args.moment + at, typename Simd<T>::Vec{});
  }
  for (int64_t s = 0; s < sources; ++s) {
    const T* l = left + source_ids[s] * args.value_dim;
    for (int64_t e = 0; e < args.value_dim; ++e) {
      add_scaled<T>(args.moment + e * args.dim, right + source_ids[s] * args.dim, l[e], args.dim);
    }
  }
  for (int64_t r = 0; r < targets; ++r) {
    const T* p = probe + target_ids[r] * args.value_dim;
    for (int64_t e = 0; e < args.value_dim; ++e) {
      add_scaled<T>(to + target_ids[r] * args.dim, args.moment + e * args.dim, p[e] * args.scale, args.dim);
    }
  }
}

template <typename T>
void bucket(const Bucket<T>& args) {
  // Multiply-adds: 3 d a pair, or 2 d^2 a member. The second bounds the cost of a crowded bucket by its members.
  if (3 * args.num_query * args.num_key > 2 * (args.num_query + args.num_key) * args.value_dim) {
    through_moment(args, args.key_ids, args.num_key, args.values, args.keys, args.query_ids, args.num_query, args.grads,
                   args.grad_queries);
    through_moment(args, args.query_ids, args.num_query, args.grads, args.queries, args.key_ids, args.num_key,
                   args.values, args.grad_keys);
    return;
  }
  for (int64_t a = 0; a < args.num_query; ++a) {
    const int64_t i = args.query_ids[a];
    for (int64_t b = 0; b < args.num_key; ++b) {
      const int64_t j = args.key_ids[b];
      const T weight =
          args.scale * dot<T>(args.grads + i * args.value_dim, args.values + j * args.value_dim, args.value_dim);
      add_scaled<T>(args.grad_queries + i * args.dim, args.keys + j * args.dim, weight, args.dim);
      add_scaled<T>(args.grad_keys + j * args.dim, args.queries + i * args.dim, weight, args.dim);
    }
  }
}

}  // namespace
}  // namespace yoso
