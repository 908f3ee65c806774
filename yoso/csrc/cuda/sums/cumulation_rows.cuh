// Rows of a matrix spread over the lanes of a warp: several rows at once, one a group of lanes, in 16-byte vectors
// where the rows allow it, else element by element. Sums are in float32.
#pragma once

#include <cstring>

#include "../common/elements.cuh"
#include "../common/rows.h"

namespace yoso::cuda {

// kVec consecutive elements, as they lie in memory.
template <typename T, int kVec>
struct Vector {
  static_assert(kVec * sizeof(T) == 16);
  static constexpr int kPerWord = 4 / sizeof(T);
  uint4 words;

  __device__ static Vector zero() { return {make_uint4(0, 0, 0, 0)}; }
  __device__ static Vector load(const T* from) { return {*reinterpret_cast<const uint4*>(from)}; }
  __device__ void floats(float* x) const {
    to_floats(words.x, x, static_cast<const T*>(nullptr));
    to_floats(words.y, x + kPerWord, static_cast<const T*>(nullptr));
    to_floats(words.z, x + 2 * kPerWord, static_cast<const T*>(nullptr));
    to_floats(words.w, x + 3 * kPerWord, static_cast<const T*>(nullptr));
  }
  __device__ static void store(const float* x, T* to) {
    T rounded[kVec];
    for (int c = 0; c < kVec; ++c) round_to(x[c], rounded[c]);
    uint4 words;
    memcpy(&words, rounded, sizeof(words));
    *reinterpret_cast<uint4*>(to) = words;
  }
};

template <typename T>
struct Vector<T, 1> {
  T element;

  __device__ static Vector zero() {
    Vector none;
    round_to(0.0f, none.element);
    return none;
  }
  __device__ static Vector load(const T* from) { return {*from}; }
  __device__ void floats(float* x) const { x[0] = to_float(element); }
  __device__ static void store(const float* x, T* to) { round_to(x[0], *to); }
};

// kLanes lanes hold a row, each kVecs vectors of kVec elements, kLanes * kVec elements apart.
template <typename Element, int kVec_, int kLanes_, int kVecs_>
struct RowLayout {
  using T = Element;
  using Vec = Vector<T, kVec_>;
  static constexpr int kVec = kVec_, kLanes = kLanes_, kVecs = kVecs_;
  static constexpr int kGroups = kWarp / kLanes;  // rows a warp holds
  static constexpr int kFloats = kVec * kVecs;    // elements of a row that a lane holds
  static constexpr int kColumns = kFloats * kLanes;

  // First column of this lane's v-th vector.
  __device__ static int column(int v) { return (v * kLanes + static_cast<int>(threadIdx.x) % kLanes) * kVec; }
};

// Where a head's rows begin. Heads are counted in 32 bits: a 64-bit division costs as much as many rows.
template <typename T>
__device__ inline const T* head_rows(const Rows& rows, unsigned head, int64_t heads_per_batch) {
  const unsigned heads = static_cast<unsigned>(heads_per_batch);
  return static_cast<const T*>(rows.data) + head / heads * rows.stride_batch + head % heads * rows.stride_head;
}

// This lane's view of a head's rows of `columns` elements.
template <typename Layout>
struct LaneRows {
  using T = typename Layout::T;
  const char* first;  // this lane's first vector of the head's first row
  uint32_t stride;    // bytes from row to row; with_dense_rows sees to it that they fit
  int columns;

  __device__ LaneRows(const Rows& rows, unsigned head, int64_t heads_per_batch, int64_t count)
      : first(reinterpret_cast<const char*>(head_rows<T>(rows, head, heads_per_batch) + Layout::column(0))),
        stride(static_cast<uint32_t>(rows.stride_row) * sizeof(T)),
        columns(static_cast<int>(count)) {}
  __device__ bool has(int v) const { return Layout::column(v) < columns; }
  // One multiply-add makes the address.
  __device__ const T* vector(uint32_t row, int v) const {
    return reinterpret_cast<const T*>(first + static_cast<uint64_t>(row) * stride) +
           v * (Layout::kLanes * Layout::kVec);
  }
};

// This lane's part of one row, as it lies in memory; zero past the end.
template <typename Layout>
struct RowPart {
  typename Layout::Vec vectors[Layout::kVecs];

  __device__ void clear() {
#pragma unroll
    for (int v = 0; v < Layout::kVecs; ++v) vectors[v] = Layout::Vec::zero();
  }

  // Into a part that has been cleared, or has held rows of as many columns.
  __device__ void load(const LaneRows<Layout>& rows, uint32_t row) {
#pragma unroll
    for (int v = 0; v < Layout::kVecs; ++v) {
      if (rows.has(v)) vectors[v] = Layout::Vec::load(rows.vector(row, v));
    }
  }

  __device__ void load_or_clear(const LaneRows<Layout>& rows, uint32_t row, bool wanted) {
    clear();
    if (wanted) load(rows, row);
  }

  __device__ void floats(float* x) const {
#pragma unroll
    for (int v = 0; v < Layout::kVecs; ++v) vectors[v].floats(x + v * Layout::kVec);
  }
};

template <typename Layout>
__device__ inline void store_row(const float* x, float scale, typename Layout::T* row, int columns) {
#pragma unroll
  for (int v = 0; v < Layout::kVecs; ++v) {
    float scaled[Layout::kVec];
#pragma unroll
    for (int c = 0; c < Layout::kVec; ++c) scaled[c] = x[v * Layout::kVec + c] * scale;
    if (Layout::column(v) < columns) Layout::Vec::store(scaled, row + Layout::column(v));
  }
}

// x += this lane's part of a row of float32.
template <typename Layout>
__device__ inline void add_floats(const float* row, int columns, float* x) {
#pragma unroll
  for (int v = 0; v < Layout::kVecs; ++v) {
    if (Layout::column(v) >= columns) continue;
    const float* from = row + Layout::column(v);
    float* to = x + v * Layout::kVec;
    if constexpr (Layout::kVec == 1) {
      *to += *from;
    } else {
#pragma unroll
      for (int c = 0; c < Layout::kVec; c += 4) {
        const float4 sums = *reinterpret_cast<const float4*>(from + c);
        to[c] += sums.x;
        to[c + 1] += sums.y;
        to[c + 2] += sums.z;
        to[c + 3] += sums.w;
      }
    }
  }
}

// Rows under way in a group of lanes.
constexpr int kRowsAtOnce = 4;

// x += the first `wanted` of the rows that ids name.
template <typename Layout>
__device__ inline void add_rows(const LaneRows<Layout>& rows, uint4 ids, int wanted, float* x) {
  const uint32_t id[kRowsAtOnce] = {ids.x, ids.y, ids.z, ids.w};
  RowPart<Layout> parts[kRowsAtOnce];
#pragma unroll
  for (int u = 0; u < kRowsAtOnce; ++u) parts[u].load_or_clear(rows, id[u], u < wanted);
#pragma unroll
  for (int u = 0; u < kRowsAtOnce; ++u) {
    float row[Layout::kFloats];
    parts[u].floats(row);
#pragma unroll
    for (int c = 0; c < Layout::kFloats; ++c) x[c] += row[c];
  }
}

// Whether rows of `columns` elements can be read in 16-byte vectors.
inline bool in_vectors(const Rows& rows, int64_t columns, Dtype dtype) {
  const int64_t bytes = dtype == Dtype::kFloat32 ? 4 : 2;
  return columns * bytes % 16 == 0 && rows_are_aligned(rows, bytes, 16);
}

// Calls f with a RowLayout for rows of `columns` elements, in vectors where `vectors` says that they lie so.
template <typename T, typename F>
cudaError_t with_layout(int64_t columns, bool vectors, F f) {
  constexpr int kVec = 16 / sizeof(T);
  if (!vectors) return f(RowLayout<T, 1, 32, 8>());
  if (columns <= 4 * kVec) return f(RowLayout<T, kVec, 4, 1>());
  if (columns <= 8 * kVec) return f(RowLayout<T, kVec, 8, 1>());
  if (columns <= 16 * kVec) return f(RowLayout<T, kVec, 16, 1>());
  if (columns <= 32 * kVec) return f(RowLayout<T, kVec, 32, 1>());
  if constexpr (sizeof(T) == 4) return f(RowLayout<T, kVec, 32, 2>());
  return cudaErrorInvalidValue;
}

}  // namespace yoso::cuda
