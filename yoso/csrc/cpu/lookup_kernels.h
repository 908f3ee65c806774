// Targets that walk the buckets of their own codes: their sources as one flat list, so that the rows can be fetched
// before they are needed and no branch depends on how many a bucket holds.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

// Targets that are looked up together, and those whose sources are then listed together.
constexpr int64_t kLookedUp = 128, kListed = 8;
// How many rows ahead memory is asked.
constexpr int64_t kAhead = 6;

// What a target finds under one hash's code: the first ids of the bucket, which may run into the next one, where they
// stand and how many are its own.
struct Found {
  int32_t ids[4];
  int32_t at, size;
};

// Hash by hash, so that one hash's starts and ids are all that is looked up in for a while, and without a branch, so
// that many lookups are under way at once. found is [num_hash][targets].
inline void look_up(const Lookup& lookup, int64_t first, int64_t targets, Found* found) {
  const CodeOrder& sources = lookup.sources;
  for (int64_t h = 0; h < sources.num_hash; ++h) {
    const uint16_t* codes = lookup.codes + h * lookup.codes_stride + first;
    const int32_t* starts = sources.starts + h * (sources.table_rows + 2);
    const int32_t* ids = sources.ids + h * sources.stride;
    for (int64_t t = 0; t < targets; ++t) {
      Found& to = *found++;
      to.at = starts[codes[t]];
      to.size = starts[codes[t] + 1] - to.at;
      __builtin_memcpy(to.ids, ids + to.at, sizeof(to.ids));
    }
  }
}

// Appends one bucket to the list at `to`, behind which four places may be written.
inline int64_t list_bucket(const Found& found, const int32_t* ids, int32_t* to) {
  __builtin_memcpy(to, found.ids, sizeof(found.ids));
  if (__builtin_expect(found.ids[0] < 0, 0)) return 0;
  for (int32_t s = 4; s < found.size; ++s) to[s] = ids[found.at + s];
  return found.size;
}

template <typename T>
inline void prefetch_row(const T* row, int64_t dim) {
  for (int64_t c = 0; c < dim; c += kLanes) __builtin_prefetch(row + c);
}

// Calls visit(target, sources, how many) for every real target. kAhead more sources may be read: those of the next
// ones.
template <typename Visit>
inline void visit_targets(const Lookup& lookup, Visit visit) {
  const CodeOrder& sources = lookup.sources;
  Found found[kMostHashes * kLookedUp];
  int32_t list[kListed * kMostHashes * kFewRows + 4 + kAhead];
  int64_t ends[kListed];
  for (int64_t first = lookup.first; first < lookup.last; first += kLookedUp) {
    const int64_t looked_up = lookup.last - first < kLookedUp ? lookup.last - first : kLookedUp;
    look_up(lookup, first, looked_up, found);
    for (int64_t from = 0; from < looked_up; from += kListed) {
      const int64_t targets = looked_up - from < kListed ? looked_up - from : kListed;
      int64_t count = 0;
      for (int64_t t = 0; t < targets; ++t) {
        const bool real = !lookup.real || lookup.real[first + from + t];
        for (int64_t h = 0; real && h < sources.num_hash; ++h) {
          count += list_bucket(found[h * looked_up + from + t], sources.ids + h * sources.stride, list + count);
        }
        ends[t] = count;
      }
      if (count == 0) continue;
      for (int64_t a = 0; a < kAhead; ++a) list[count + a] = list[count - 1];
      for (int64_t t = 0, at = 0; t < targets; at = ends[t++]) {
        if (ends[t] > at) visit(first + from + t, list + at, ends[t] - at);
      }
    }
  }
}

}  // namespace
}  // namespace yoso
