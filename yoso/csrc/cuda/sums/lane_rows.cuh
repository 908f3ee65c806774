// Matrix rows distributed over the lanes of a warp: each group of lanes holds one row, in 16-byte vectors if the rows
// are aligned for that, else element by element. Sums are in float32.
#pragma once

#include <cstring>
#include <type_traits>

#include "../common/elements.cuh"
#include "../common/launch.h"

namespace yoso::cuda {

// kElements consecutive elements, as they are in memory.
template <typename T, int kElements>
struct Vector {
  static_assert(kElements * sizeof(T) == 16);
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
    T rounded[kElements];
    for (int c = 0; c < kElements; ++c) round_to(x[c], rounded[c]);
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

// A group of kLanes lanes holds a row. Each lane has kVectorsPerLane vectors of kVectorElements elements; a lane's
// vectors are kLanes * kVectorElements elements apart, so that the group's loads are coalesced.
template <typename Element, int kVectorElements_, int kLanes_, int kVectorsPerLane_>
struct RowLayout {
  using T = Element;
  using Vec = Vector<T, kVectorElements_>;
  static constexpr int kVectorElements = kVectorElements_, kLanes = kLanes_, kVectorsPerLane = kVectorsPerLane_;
  static constexpr int kRowsPerWarp = kWarp / kLanes;
  static constexpr int kElementsPerLane = kVectorElements * kVectorsPerLane;

  // The first column of this lane's v-th vector.
  __device__ static int column(int v) {
    return (v * kLanes + static_cast<int>(threadIdx.x) % kLanes) * kVectorElements;
  }
};

// The start of a head's rows. 32-bit divisions: a 64-bit division costs as much as many rows.
template <typename T>
__device__ inline const T* head_rows(const Rows& rows, unsigned head, int64_t heads_per_batch) {
  const unsigned heads = static_cast<unsigned>(heads_per_batch);
  return static_cast<const T*>(rows.data) + head / heads * rows.stride_batch + head % heads * rows.stride_head;
}

// This lane's columns of a head's rows of `columns` elements.
template <typename Layout>
struct LaneRows {
  using T = typename Layout::T;
  const char* first;  // this lane's first vector of the head's first row
  uint32_t stride;    // bytes from row to row; with_dense_rows guarantees that they fit 32 bits
  int columns;

  __device__ LaneRows(const Rows& rows, unsigned head, int64_t heads_per_batch, int64_t count)
      : first(reinterpret_cast<const char*>(head_rows<T>(rows, head, heads_per_batch) + Layout::column(0))),
        stride(static_cast<uint32_t>(rows.stride_row) * sizeof(T)),
        columns(static_cast<int>(count)) {}
  __device__ bool has(int v) const { return Layout::column(v) < columns; }
  // The address is one multiply-add.
  __device__ const T* vector(uint32_t row, int v) const {
    return reinterpret_cast<const T*>(first + static_cast<uint64_t>(row) * stride) +
           v * (Layout::kLanes * Layout::kVectorElements);
  }
};

// This lane's part of one row, as it is in memory; zero beyond the row's end.
template <typename Layout>
struct RowPart {
  typename Layout::Vec vectors[Layout::kVectorsPerLane];

  __device__ void clear() {
#pragma unroll
    for (int v = 0; v < Layout::kVectorsPerLane; ++v) vectors[v] = Layout::Vec::zero();
  }

  // Vectors beyond the row's end are not written: the part must be cleared first, or have held such a row before.
  __device__ void load(const LaneRows<Layout>& rows, uint32_t row) {
#pragma unroll
    for (int v = 0; v < Layout::kVectorsPerLane; ++v) {
      if (rows.has(v)) vectors[v] = Layout::Vec::load(rows.vector(row, v));
    }
  }

  __device__ void load_or_clear(const LaneRows<Layout>& rows, uint32_t row, bool wanted) {
    clear();
    if (wanted) load(rows, row);
  }

  __device__ void floats(float* x) const {
#pragma unroll
    for (int v = 0; v < Layout::kVectorsPerLane; ++v) vectors[v].floats(x + v * Layout::kVectorElements);
  }
};

// Stores this lane's part of a row, multiplied by scale, in the layout's type or in float32.
template <typename Layout, typename Out>
__device__ inline void store_row(const float* x, float scale, Out* row, int columns) {
  static_assert(std::is_same_v<Out, typename Layout::T> || std::is_same_v<Out, float>);
  constexpr int kElements = Layout::kVectorElements == 1 ? 1 : 16 / static_cast<int>(sizeof(Out));  // of one store
#pragma unroll
  for (int v = 0; v < Layout::kVectorsPerLane; ++v) {
    float scaled[Layout::kVectorElements];
#pragma unroll
    for (int c = 0; c < Layout::kVectorElements; ++c) scaled[c] = x[v * Layout::kVectorElements + c] * scale;
    if (Layout::column(v) >= columns) continue;
#pragma unroll
    for (int c = 0; c < Layout::kVectorElements; c += kElements) {
      Vector<Out, kElements>::store(scaled + c, row + Layout::column(v) + c);
    }
  }
}

// x += this lane's part of a row of float32.
template <typename Layout>
__device__ inline void add_floats(const float* row, int columns, float* x) {
#pragma unroll
  for (int v = 0; v < Layout::kVectorsPerLane; ++v) {
    if (Layout::column(v) >= columns) continue;
    const float* from = row + Layout::column(v);
    float* to = x + v * Layout::kVectorElements;
    if constexpr (Layout::kVectorElements == 1) {
      *to += *from;
    } else {
#pragma unroll
      for (int c = 0; c < Layout::kVectorElements; c += 4) {
        const float4 sums = *reinterpret_cast<const float4*>(from + c);
        to[c] += sums.x;
        to[c + 1] += sums.y;
        to[c + 2] += sums.z;
        to[c + 3] += sums.w;
      }
    }
  }
}

// Rows that a group of lanes loads at once.
constexpr int kRowsAtOnce = 4;

// x += this lane's part of the rows that the first `wanted` ids name.
template <typename Layout>
__device__ inline void add_rows(const LaneRows<Layout>& rows, uint4 ids, int wanted, float* x) {
  const uint32_t id[kRowsAtOnce] = {ids.x, ids.y, ids.z, ids.w};
  RowPart<Layout> parts[kRowsAtOnce];
#pragma unroll
  for (int u = 0; u < kRowsAtOnce; ++u) parts[u].load_or_clear(rows, id[u], u < wanted);
#pragma unroll
  for (int u = 0; u < kRowsAtOnce; ++u) {
    float row[Layout::kElementsPerLane];
    parts[u].floats(row);
#pragma unroll
    for (int c = 0; c < Layout::kElementsPerLane; ++c) x[c] += row[c];
  }
}

// Whether rows of `columns` elements can be read in 16-byte vectors.
inline bool in_vectors(const Rows& rows, int64_t columns, Dtype dtype) {
  const int64_t bytes = dtype == Dtype::kFloat32 ? 4 : 2;
  return columns * bytes % 16 == 0 && rows_are_aligned(rows, bytes, 16);
}

// Calls f with a RowLayout for rows of `columns` elements. `vectors`: all rows satisfy in_vectors.
template <typename T, typename F>
cudaError_t with_layout(int64_t columns, bool vectors, F f) {
  constexpr int kElements = 16 / sizeof(T);
  if (!vectors) return f(RowLayout<T, 1, 32, 8>());
  if (columns <= 4 * kElements) return f(RowLayout<T, kElements, 4, 1>());
  if (columns <= 8 * kElements) return f(RowLayout<T, kElements, 8, 1>());
  if (columns <= 16 * kElements) return f(RowLayout<T, kElements, 16, 1>());
  if (columns <= 32 * kElements) return f(RowLayout<T, kElements, 32, 1>());
  if constexpr (sizeof(T) == 4) return f(RowLayout<T, kElements, 32, 2>());
  return cudaErrorInvalidValue;
}

}  // namespace yoso::cuda
