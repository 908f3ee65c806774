// Rows of a matrix spread over the lanes of a warp: several rows at once, one a group of lanes, in 16-byte vectors
// where the rows allow it, else element by element. Sums are in float32.
#pragma once

#include <cstring>

#include "launch.h"
#include "rows.h"

namespace yoso::cuda {

__device__ inline void to_floats(uint32_t word, float* x, const __nv_bfloat16*) {
  x[0] = __uint_as_float(word << 16);
  x[1] = __uint_as_float(word & 0xffff0000u);
}

__device__ inline void to_floats(uint32_t word, float* x, const __half*) {
  const uint16_t bits[2] = {static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 16)};
  __half halves[2];
  memcpy(halves, bits, sizeof(bits));
  x[0] = __half2float(halves[0]);
  x[1] = __half2float(halves[1]);
}

__device__ inline void to_floats(uint32_t word, float* x, const float*) { x[0] = __uint_as_float(word); }

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

__device__ inline void round_to(float x, float& to) { to = x; }
__device__ inline void round_to(float x, __nv_bfloat16& to) { to = __float2bfloat16_rn(x); }
__device__ inline void round_to(float x, __half& to) { to = __float2half_rn(x); }

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

// This lane's part of one row of `columns` elements, as it lies in memory; zero past the end.
template <typename Layout>
struct RowPart {
  using T = typename Layout::T;
  typename Layout::Vec vectors[Layout::kVecs];

  __device__ void load(const T* row, int columns, bool wanted) {
#pragma unroll
    for (int v = 0; v < Layout::kVecs; ++v) {
      vectors[v] = Layout::Vec::zero();
      if (wanted && Layout::column(v) < columns) vectors[v] = Layout::Vec::load(row + Layout::column(v));
    }
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

// Where a head's rows begin. Heads are counted in 32 bits: a 64-bit division costs as much as many rows.
template <typename T>
__device__ inline const T* head_rows(const Rows& rows, unsigned head, int64_t heads_per_batch) {
  const unsigned heads = static_cast<unsigned>(heads_per_batch);
  return static_cast<const T*>(rows.data) + head / heads * rows.stride_batch + head % heads * rows.stride_head;
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
