// The sampled gradient from small buckets: each target reads the rows of the sources in its buckets. Every source adds
// one dot product and one weighted row. The sources of several targets are listed first, so that their rows can be
// prefetched and no branch depends on the size of a bucket.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

// Targets whose buckets are looked up together, and targets whose sources are then listed together.
constexpr int64_t kTargetsPerLookup = 128, kTargetsPerList = 8;
// How many rows ahead of its use a row is prefetched.
constexpr int64_t kPrefetchDistance = 6;

// Fills heads [num_hash][targets]. One hash after the other, so that the working set of the random reads is the starts
// and ids of one hash, and without branches, so that many lookups are in flight at once.
inline void look_up(const BucketLookup& lookup, int64_t first, int64_t targets, BucketHead* heads) {
  const Buckets& sources = lookup.sources;
  for (int64_t h = 0; h < sources.num_hash; ++h) {
    const uint16_t* codes = lookup.codes + h * lookup.codes_stride + first;
    const int32_t* starts = sources.starts + h * (sources.table_rows + 2);
    const int32_t* ids = sources.ids + h * sources.stride;
    for (int64_t t = 0; t < targets; ++t) {
      BucketHead& head = *heads++;
      head.start = starts[codes[t]];
      head.size = starts[codes[t] + 1] - head.start;
      __builtin_memcpy(head.first_ids, ids + head.start, sizeof(head.first_ids));
    }
  }
}

// Writes the ids of one bucket to `list` and returns how many they are; none for a large bucket. Four places of `list`
// are overwritten even if the bucket is smaller.
inline int64_t list_bucket(const BucketHead& head, const int32_t* ids, int32_t* list) {
  __builtin_memcpy(list, head.first_ids, sizeof(head.first_ids));
  if (__builtin_expect(head.first_ids[0] < 0, 0)) return 0;
  for (int32_t s = 4; s < head.size; ++s) list[s] = ids[head.start + s];
  return head.size;
}

template <typename T>
inline void prefetch_row(const T* row, int64_t dim) {
  for (int64_t c = 0; c < dim; c += kLanes) __builtin_prefetch(row + c);
}

// Calls visit(target, sources, count) for every unmasked target that has sources in small buckets. visit may read
// kPrefetchDistance more ids after `sources`: those of the targets that follow, for prefetching.
template <typename Visit>
inline void visit_targets(const BucketLookup& lookup, Visit visit) {
  const Buckets& sources = lookup.sources;
  BucketHead heads[kMaxHashesAtOnce * kTargetsPerLookup];
  int32_t list[kTargetsPerList * kMaxHashesAtOnce * kMaxSmallBucketRows + 4 + kPrefetchDistance];
  int64_t ends[kTargetsPerList];
  for (int64_t first = lookup.first; first < lookup.last; first += kTargetsPerLookup) {
    const int64_t looked_up = lookup.last - first < kTargetsPerLookup ? lookup.last - first : kTargetsPerLookup;
    look_up(lookup, first, looked_up, heads);
    for (int64_t from = 0; from < looked_up; from += kTargetsPerList) {
      const int64_t targets = looked_up - from < kTargetsPerList ? looked_up - from : kTargetsPerList;
      int64_t count = 0;
      for (int64_t t = 0; t < targets; ++t) {
        const bool unmasked = !lookup.mask || lookup.mask[first + from + t];
        for (int64_t h = 0; unmasked && h < sources.num_hash; ++h) {
          count += list_bucket(heads[h * looked_up + from + t], sources.ids + h * sources.stride, list + count);
        }
        ends[t] = count;
      }
      if (count == 0) continue;
      for (int64_t a = 0; a < kPrefetchDistance; ++a) list[count + a] = list[count - 1];
      for (int64_t t = 0, start = 0; t < targets; start = ends[t++]) {
        if (ends[t] > start) visit(first + from + t, list + start, ends[t] - start);
      }
    }
  }
}

// payload_dim == unit_dim == kSlices * 16, known at compile time: a target's sums stay in registers.
template <typename T, int kSlices, bool kGradPayload>
void small_buckets_of_slices(const SmallBucketGradient<T>& args) {
  using V = Simd<T>;
  constexpr int64_t kDim = kSlices * kLanes;
  visit_targets(args.lookup, [&](int64_t target, const int32_t* sources, int64_t count) {
    T *grad_unit = args.grad_unit + target * kDim, *grad_payload = args.grad_payload + target * kDim;
    typename V::Vec payload[kSlices], unit_sum[kSlices], payload_sum[kSlices];
#pragma GCC unroll 8
    for (int c = 0; c < kSlices; ++c) {
      payload[c] = V::load(args.targets + target * 2 * kDim + c * kLanes) * args.scale;
      unit_sum[c] = V::load(grad_unit + c * kLanes);
      if constexpr (kGradPayload) payload_sum[c] = V::load(grad_payload + c * kLanes);
    }
    for (int64_t s = 0; s < count; ++s) {
      prefetch_row(args.sources + sources[s + kPrefetchDistance] * 2 * kDim, 2 * kDim);
      const T* row = args.sources + sources[s] * 2 * kDim;
      typename V::Vec products{};
#pragma GCC unroll 8
      for (int c = 0; c < kSlices; ++c) {
        const typename V::Vec column = V::load(row + c * kLanes);
        products += payload[c] * column;
        if constexpr (kGradPayload) payload_sum[c] += column;
      }
      const T weight = horizontal_sum(products);
#pragma GCC unroll 8
      for (int c = 0; c < kSlices; ++c) unit_sum[c] += V::load(row + kDim + c * kLanes) * weight;
    }
#pragma GCC unroll 8
    for (int c = 0; c < kSlices; ++c) {
      V::store(grad_unit + c * kLanes, unit_sum[c]);
      if constexpr (kGradPayload) V::store(grad_payload + c * kLanes, payload_sum[c]);
    }
  });
}

// Any payload_dim and unit_dim.
template <typename T>
void small_buckets_of_any_dim(const SmallBucketGradient<T>& args) {
  const int64_t size = args.payload_dim + args.unit_dim;
  visit_targets(args.lookup, [&](int64_t target, const int32_t* sources, int64_t count) {
    for (int64_t s = 0; s < count; ++s) {
      const T* row = args.sources + sources[s] * size;
      const T weight = dot(args.targets + target * size, row, args.payload_dim) * args.scale;
      add_scaled(args.grad_unit + target * args.unit_dim, row + args.payload_dim, weight, args.unit_dim);
      if (args.grad_payload) {
        add_scaled(args.grad_payload + target * args.payload_dim, row, T{1}, args.payload_dim);
      }
    }
  });
}

template <typename T, int kSlices>
void small_buckets_of_known_dim(const SmallBucketGradient<T>& args) {
  args.grad_payload ? small_buckets_of_slices<T, kSlices, true>(args)
                    : small_buckets_of_slices<T, kSlices, false>(args);
}

template <typename T>
void small_buckets(const SmallBucketGradient<T>& args) {
  switch (args.payload_dim == args.unit_dim ? args.unit_dim / kLanes : 0) {
    case 2:
      return small_buckets_of_known_dim<T, 2>(args);
    case 4:
      return small_buckets_of_known_dim<T, 4>(args);
    case 8:
      return small_buckets_of_known_dim<T, 8>(args);
    default:
      return small_buckets_of_any_dim(args);
  }
}

}  // namespace
}  // namespace yoso
