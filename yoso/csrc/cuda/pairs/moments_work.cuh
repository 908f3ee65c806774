// A warp's work on one crowded bucket: the moment of its sources, and what it gives to its targets.
#pragma once

#include <type_traits>

#include "../common/mma.cuh"
#include "../sums/crowded_sums.h"
#include "../sums/cumulation_rows.cuh"
#include "moments.h"

namespace yoso::cuda {

constexpr int kRows = 16;     // of a tile
constexpr int kOwned = 16;    // columns of direction that a block owns
constexpr int kPartner = 64;  // columns of partner at a time
constexpr int kParts = kPartner / 16;

// Rows that a warp works on. The strides let ldmatrix read without bank conflicts.
template <typename T>
struct Tile {
  static constexpr int kPad = 16 / static_cast<int>(sizeof(T));
  static constexpr int kWide = kPartner + kPad, kNarrow = kOwned + kPad;
  __align__(16) T wide[kRows * kWide];      // of partner or own
  __align__(16) T narrow[kRows * kNarrow];  // of direction
  __align__(16) uint32_t lone;              // see looked_up
};

struct MomentsLayout {
  unsigned blocks_a_head;
  bool own_vectors, partner_vectors, direction_vectors;  // see gather
};

// Starts loading columns first, first + 1, ... of the rows that the lanes' ids name, `count` of them, into
// tile[kRows][kStride]. Rows beyond count and columns beyond dim become zero.
// vectors: every row starts at 16 aligned bytes and is a multiple of 16 bytes long.
template <int kColumns, int kStride, typename T>
__device__ void gather(T* tile, const T* rows, int64_t stride, uint32_t id, int count, int first, int dim,
                       bool vectors) {
  const int lane = threadIdx.x % kWarp;
  if (vectors) {
    constexpr int kElements = 16 / sizeof(T), kVectors = kColumns / kElements;
#pragma unroll 1
    for (int i = 0; i < kRows * kVectors / kWarp; ++i) {
      const int row = (i * kWarp + lane) / kVectors, column = (i * kWarp + lane) % kVectors * kElements;
      const uint32_t of_row = __shfl_sync(kWholeWarp, id, row);
      const bool real = row < count && first + column < dim;
      copy_async(tile + row * kStride + column, real ? rows + of_row * stride + first + column : rows, real);
    }
  } else {
#pragma unroll 1
    for (int i = 0; i < kRows * kColumns / kWarp; ++i) {
      const int row = (i * kWarp + lane) / kColumns, column = (i * kWarp + lane) % kColumns;
      const uint32_t of_row = __shfl_sync(kWholeWarp, id, row);
      const bool real = row < count && first + column < dim;
      tile[row * kStride + column] = real ? rows[of_row * stride + first + column] : T(0.0f);
    }
  }
}

// The ids of one bucket.
struct Bucket {
  const uint32_t* ids;
  uint32_t size;

  // This lane's id of the next kRows from `at` on; any where there are fewer.
  __device__ uint32_t id(uint32_t at) const {
    const uint32_t place = at + threadIdx.x % kWarp;
    return threadIdx.x % kWarp < kRows && place < size ? ids[place] : 0;
  }
  __device__ int left(uint32_t at) const { return static_cast<int>(min(size - at, 1u * kRows)); }
};

// The bucket that a token looks up. Of one token there is no list but only the id, which goes into the warp's `lone`.
__device__ inline Bucket looked_up(const Buckets& buckets, int64_t index, uint32_t token, uint32_t* lone) {
  const uint32_t entry = buckets.entries[index * buckets.num_query + token], first = entry >> kEntryShift;
  uint2 found = make_uint2(first, entry & kCrowded);
  if (found.y == kCrowded) found = buckets.crowded[index * buckets.crowded_capacity + first];
  if (found.y != 1) return {buckets.ids + index * buckets.num_key + found.x, found.y};
  if (threadIdx.x % kWarp == 0) *lone = first;
  __syncwarp();
  return {lone, 1};
}

// A moment [kOwned, kPartner] as fragments that multiply rows of `own`, to twice the bits of a 16-bit T.
template <typename T>
struct Moment {
  using A = typename Product<T>::A;
  static constexpr bool kHalf = sizeof(T) == 2;
  A rounded[kParts], rest[kHalf ? kParts : 1];
  float scale = 1;

  __device__ explicit Moment(Accumulator (&sums)[kParts][2]) {
    if constexpr (std::is_same_v<T, __half>) into_range(sums);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      rounded[part] = Product<T>::a_of(sums[part]);
      if constexpr (kHalf) rest[part] = Product<T>::rest_of(sums[part], rounded[part]);
    }
  }

  // 1 / scale, a power of two.
  __device__ float unscale() const { return __uint_as_float((254u << 23) - __float_as_uint(scale)); }

  __device__ void multiply(Accumulator (&out)[2], const T* own_tile, int stride) const {
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      const auto b = Product<T>::load_b_of_rows(own_tile + part * 16, stride);
      if constexpr (kHalf) Product<T>::add(out, rest[part], b);
      Product<T>::add(out, rounded[part], b);
    }
  }

 private:
  // A sum of products of float16 may pass its range: a power of two brings the largest near 2^14.
  __device__ void into_range(Accumulator (&sums)[kParts][2]) {
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kParts * 8; ++i) largest = fmaxf(largest, fabsf(sums[i / 8][i / 4 % 2].x[i % 4]));
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, step));
    }
    const uint32_t exponent = max(__float_as_uint(largest) >> 23, 15u);
    scale = __uint_as_float((268 - exponent) << 23);
#pragma unroll
    for (int i = 0; i < kParts * 8; ++i) sums[i / 8][i / 4 % 2].x[i % 4] *= scale;
  }
};

// One warp's work on one bucket.
template <typename T>
struct Work {
  using P = Product<T>;
  static constexpr int kWide = Tile<T>::kWide, kNarrow = Tile<T>::kNarrow;
  const MomentsParams& params;
  const MomentsLayout& layout;
  const T *own, *partner, *direction;  // of the head
  float* out;                          // of the head
  Tile<T>* stages;                     // two of them
  int first_column;
  Bucket sources, targets;

  // Tiles are counted through: first those of the sources, then those of the targets.
  __device__ uint32_t source_tiles() const { return (sources.size + kRows - 1) / kRows; }
  __device__ uint32_t tiles() const { return source_tiles() + (targets.size + kRows - 1) / kRows; }

  // This lane's id in a tile.
  __device__ uint32_t id(uint32_t tile) const {
    const bool source = tile < source_tiles();
    return source ? sources.id(tile * kRows) : targets.id((tile - source_tiles()) * kRows);
  }

  // Starts loading a tile, a group of copies; none beyond the last.
  __device__ void start(uint32_t tile, uint32_t id, int first_partner) const {
    Tile<T>& to = stages[tile % 2];
    const int partner_dim = static_cast<int>(params.partner_dim);
    if (tile < source_tiles()) {
      const int left = sources.left(tile * kRows);
      gather<kPartner, kWide>(to.wide, partner, params.partner.stride_row, id, left, first_partner, partner_dim,
                              layout.partner_vectors);
      gather<kOwned, kNarrow>(to.narrow, direction, params.direction.stride_row, id, left, first_column,
                              static_cast<int>(params.direction_dim), layout.direction_vectors);
    } else if (tile < tiles()) {
      gather<kPartner, kWide>(to.wide, own, params.own.stride_row, id, targets.left((tile - source_tiles()) * kRows),
                              first_partner, partner_dim, layout.own_vectors);
    }
    end_copy_group();
  }

  // Calls f(sum, c, i) for what x[i] of accumulator c stands for: columns g and g + 8 of targets 2t, 2t + 1, 2t + 8 and
  // 2t + 9 of a tile.
  template <typename F>
  __device__ void for_each_of_mine(uint32_t id, int left, F f) const {
    const int lane = threadIdx.x % kWarp, column = first_column + lane / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int target = i / 2 * 8 + lane % 4 * 2 + i % 2;
      float* row = out + __shfl_sync(kWholeWarp, id, target) * float_row(params.direction_dim) + column;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (target < left && column + half * 8 < params.direction_dim) f(row[half * 8], i / 2, i % 2 + 2 * half);
      }
    }
  }

  // The part of the sums that kPartner columns of partner make.
  __device__ void add(int first_partner) const {
    uint32_t tile = 0, id_now = id(0), id_next = id(1), id_after;
    start(0, id_now, first_partner);
    // While one tile is worked on the next is loaded, and the ids of the one after it.
    const auto arrive = [&] {
      start(tile + 1, id_next, first_partner);
      id_after = id(tile + 2);
    };
    const auto leave = [&] {
      __syncwarp();
      id_now = id_next;
      id_next = id_after;
      ++tile;
    };
    Accumulator moment_sums[kParts][2] = {};
#pragma unroll 1
    while (tile < source_tiles()) {
      arrive();
      wait_for_older_copies();
      __syncwarp();
      const Tile<T>& now = stages[tile % 2];
      const auto a = P::load_a_of_columns(now.narrow, kNarrow);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        // Apart: tensor cores truncate as they add, which over a large bucket would be a drift.
        Accumulator sums[2] = {};
        P::add(sums, a, P::load_b_of_columns(now.wide + part * 16, kWide));
#pragma unroll
        for (int i = 0; i < 8; ++i) moment_sums[part][i / 4].x[i % 4] += sums[i / 4].x[i % 4];
        if (part + 1 < kParts) __syncwarp();  // for the compiler, as in Product<float>: else registers spill
      }
      leave();
    }
    const Moment<T> moment(moment_sums);
#pragma unroll 1
    while (tile < tiles()) {
      const int left = targets.left((tile - source_tiles()) * kRows);
      Accumulator before[2] = {}, sums[2] = {};
      for_each_of_mine(id_now, left, [&](float& x, int c, int i) { before[c].x[i] = x; });
      arrive();
      wait_for_older_copies();
      __syncwarp();
      moment.multiply(sums, stages[tile % 2].wide, kWide);
      for_each_of_mine(id_now, left,
                       [&](float& x, int c, int i) { x = before[c].x[i] + sums[c].x[i] * moment.unscale(); });
      leave();
    }
  }
};

}  // namespace yoso::cuda
