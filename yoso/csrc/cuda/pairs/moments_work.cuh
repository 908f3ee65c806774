// A warp's work on one crowded bucket: it computes the moment of the bucket's sources and multiplies the rows of the
// bucket's targets by it. Rows pass through shared memory in tiles of 16, copied asynchronously (TilePipeline).
#pragma once

#include <type_traits>

#include "../common/mma.cuh"
#include "../sums/crowded_sums.h"
#include "../sums/lane_rows.cuh"
#include "moments.h"

namespace yoso::cuda {

constexpr int kTileRows = 16;
constexpr int kOwnedColumns = 16;                        // columns of direction, and of the results, that a CTA owns
constexpr int kPartnerColumns = 64;                      // columns of partner that are processed at a time
constexpr int kPartnerFragments = kPartnerColumns / 16;  // the same in products of 16 columns

// The rows of one tile in shared memory. The padding of a row lets ldmatrix read without bank conflicts.
template <typename T>
struct Tile {
  static constexpr int kPadding = 16 / static_cast<int>(sizeof(T));
  static constexpr int kWideStride = kPartnerColumns + kPadding, kNarrowStride = kOwnedColumns + kPadding;
  __align__(16) T wide[kTileRows * kWideStride];      // of partner for sources, of own for targets
  __align__(16) T narrow[kTileRows * kNarrowStride];  // of direction, for sources
  __align__(16) uint32_t single_id;                   // see look_up_bucket
};

struct MomentsLayout {
  unsigned ctas_per_head;
  bool own_vectors, partner_vectors, direction_vectors;  // see load_rows_by_id
};

// Starts loading columns first, first + 1, ... of the rows that the lanes' ids name, `count` of them, into
// tile[kTileRows][kStride]. Rows from `count` on and columns from `dim` on become zero.
// vectors: every row is aligned to 16 bytes and a multiple of 16 bytes long. The copies are then asynchronous and not
// yet committed.
template <int kColumns, int kStride, typename T>
__device__ void load_rows_by_id(T* tile, const T* rows, int64_t stride, uint32_t id, int count, int first, int dim,
                                bool vectors) {
  const int lane = threadIdx.x % kWarp;
  if (vectors) {
    constexpr int kElements = 16 / sizeof(T), kVectors = kColumns / kElements;
#pragma unroll 1
    for (int i = 0; i < kTileRows * kVectors / kWarp; ++i) {
      const int row = (i * kWarp + lane) / kVectors, column = (i * kWarp + lane) % kVectors * kElements;
      const uint32_t row_id = __shfl_sync(kWholeWarp, id, row);
      const bool real = row < count && first + column < dim;
      copy_async(tile + row * kStride + column, real ? rows + row_id * stride + first + column : rows, real);
    }
  } else {
#pragma unroll 1
    for (int i = 0; i < kTileRows * kColumns / kWarp; ++i) {
      const int row = (i * kWarp + lane) / kColumns, column = (i * kWarp + lane) % kColumns;
      const uint32_t row_id = __shfl_sync(kWholeWarp, id, row);
      const bool real = row < count && first + column < dim;
      tile[row * kStride + column] = real ? rows[row_id * stride + first + column] : T(0.0f);
    }
  }
}

// The ids of one bucket.
struct Bucket {
  const uint32_t* ids;
  uint32_t size;

  // The id of this lane's row in the tile that starts at position `first`; any id for lanes without a row.
  __device__ uint32_t row_id(uint32_t first) const {
    const uint32_t position = first + threadIdx.x % kWarp;
    return threadIdx.x % kWarp < kTileRows && position < size ? ids[position] : 0;
  }
  // The number of rows in the tile that starts at position `first`.
  __device__ int rows_from(uint32_t first) const { return static_cast<int>(min(size - first, 1u * kTileRows)); }
};

// The bucket that a token looks up. A bucket of one key has no list of ids; its id is stored in the warp's `single_id`.
__device__ inline Bucket look_up_bucket(const Buckets& buckets, int64_t index, uint32_t token, uint32_t* single_id) {
  const uint32_t entry = buckets.entries[index * buckets.num_query + token], payload = entry >> kEntryShift;
  uint2 bucket = make_uint2(payload, entry & kCrowded);  // (first position in ids, number of keys)
  if (bucket.y == kCrowded) bucket = buckets.crowded[index * buckets.crowded_capacity + payload];
  if (bucket.y != 1) return {buckets.ids + index * buckets.num_key + bucket.x, bucket.y};
  if (threadIdx.x % kWarp == 0) *single_id = payload;
  __syncwarp();
  return {single_id, 1};
}

// A warp's software pipeline over the tiles 0, 1, ... of a bucket. Tile t is in stage t % kStages of shared memory.
// While the warp works on tile t, the copies of tile t + 1 are in flight, and the ids of the rows of tile t + 2 are
// loaded into registers.
//
// Protocol for tile t. cp.async counts the groups that a thread has committed; every tile is one group, a tile beyond
// the last an empty one, so that the counts hold for the last tile too:
//
//   step            groups committed after it   what it guarantees
//   constructor     1                           tile 0 is on its way to stage 0
//   start_next()    t + 2                       tile t + 1 is on its way to stage (t + 1) % kStages
//   wait()          t + 2                       at most kGroupsInFlight groups are in flight, so groups 0 ... t have
//                                               arrived: all lanes may read stage t % kStages
//   release()       t + 2                       all lanes have read it: the next start_next() may overwrite it
constexpr int kStages = 2;
constexpr int kTilesAhead = kStages - 1;                       // tiles that are started before the warp's tile is read
constexpr int kGroupsPerTile = 1;                              // commits per tile
constexpr int kGroupsInFlight = kTilesAhead * kGroupsPerTile;  // groups newer than that of the warp's tile

// BucketWork has load_tile(stage, tile, row_id), which starts the copies of a tile and is a no-op beyond the last
// one, and row_id(tile).
template <typename T, typename BucketWork>
class TilePipeline {
  static_assert(kTilesAhead == 1, "start_next() starts one tile, and next_id_ holds the ids of one tile");
  static_assert(kTilesAhead < kStages, "the tile that is started must not be in the stage that the warp reads");

 public:
  __device__ TilePipeline(const BucketWork& work, Tile<T>* stages)
      : work_(work), stages_(stages), id_(work.row_id(0)), next_id_(work.row_id(1)) {
    start(0, id_);
  }

  __device__ uint32_t tile() const { return tile_; }

  // The id of this lane's row in the tile.
  __device__ uint32_t row_id() const { return id_; }

  __device__ void start_next() {
    start(tile_ + 1, next_id_);
    id_after_next_ = work_.row_id(tile_ + 2);
  }

  // Returns the tile once it is in shared memory.
  __device__ const Tile<T>& wait() const {
    wait_for_copy_groups<kGroupsInFlight>();
    __syncwarp();  // cp.async and plain stores by one lane become visible to the others
    return stages_[tile_ % kStages];
  }

  __device__ void release() {
    __syncwarp();
    id_ = next_id_;
    next_id_ = id_after_next_;
    ++tile_;
  }

 private:
  __device__ void start(uint32_t tile, uint32_t id) {
    work_.load_tile(stages_[tile % kStages], tile, id);
    commit_copy_group();
  }

  const BucketWork& work_;
  Tile<T>* stages_;
  uint32_t tile_ = 0;
  uint32_t id_, next_id_, id_after_next_;
};

// A moment [kOwnedColumns, kPartnerColumns], transposed, as fragments that multiply rows of `own`. 16-bit types hold it
// in two parts, to twice their bits.
template <typename T>
struct Moment {
  using A = typename Product<T>::A;
  static constexpr bool kIs16Bit = sizeof(T) == 2;
  A rounded[kPartnerFragments], rounding_error[kIs16Bit ? kPartnerFragments : 1];
  float scale = 1;

  __device__ explicit Moment(Accumulator (&sums)[kPartnerFragments][2]) {
    if constexpr (std::is_same_v<T, __half>) scale_into_range(sums);
#pragma unroll
    for (int part = 0; part < kPartnerFragments; ++part) {
      rounded[part] = Product<T>::to_a(sums[part]);
      if constexpr (kIs16Bit) rounding_error[part] = Product<T>::rounding_error_of(sums[part], rounded[part]);
    }
  }

  // 1 / scale, exactly: scale is a power of two.
  __device__ float inverse_scale() const { return __uint_as_float((254u << 23) - __float_as_uint(scale)); }

  // out += the products of the tile's rows and the scaled moment.
  __device__ void multiply(Accumulator (&out)[2], const T* own_tile, int stride) const {
#pragma unroll
    for (int part = 0; part < kPartnerFragments; ++part) {
      const auto b = Product<T>::load_b_transposed(own_tile + part * 16, stride);
      if constexpr (kIs16Bit) Product<T>::multiply_add(out, rounding_error[part], b);
      Product<T>::multiply_add(out, rounded[part], b);
    }
  }

 private:
  // A sum of products of float16 numbers may exceed float16's range. Scales by the power of two that brings the largest
  // magnitude near 2^14.
  __device__ void scale_into_range(Accumulator (&sums)[kPartnerFragments][2]) {
    float largest = 0;
#pragma unroll
    for (int i = 0; i < kPartnerFragments * 8; ++i) {
      largest = fmaxf(largest, fabsf(sums[i / 8][i / 4 % 2].x[i % 4]));
    }
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, step));
    }
    const uint32_t exponent = max(__float_as_uint(largest) >> 23, 15u);
    scale = __uint_as_float((268 - exponent) << 23);
#pragma unroll
    for (int i = 0; i < kPartnerFragments * 8; ++i) sums[i / 8][i / 4 % 2].x[i % 4] *= scale;
  }
};

// One warp's work on one bucket, for kPartnerColumns columns of partner from first_partner on and kOwnedColumns columns
// of direction from first_column on. Tiles are numbered through: first those of the sources, then those of the targets.
template <typename T>
struct BucketWork {
  using P = Product<T>;
  static constexpr int kWideStride = Tile<T>::kWideStride, kNarrowStride = Tile<T>::kNarrowStride;
  const MomentsParams& params;
  const MomentsLayout& layout;
  const T *own, *partner, *direction;  // the head's rows
  float* out;                          // the head's results
  Tile<T>* stages;                     // the warp's, kStages of them
  int first_column, first_partner;
  Bucket sources, targets;

  __device__ uint32_t source_tiles() const { return (sources.size + kTileRows - 1) / kTileRows; }
  __device__ uint32_t tiles() const { return source_tiles() + (targets.size + kTileRows - 1) / kTileRows; }

  // The id of this lane's row in a tile.
  __device__ uint32_t row_id(uint32_t tile) const {
    const bool is_source = tile < source_tiles();
    return is_source ? sources.row_id(tile * kTileRows) : targets.row_id((tile - source_tiles()) * kTileRows);
  }

  // Starts loading a tile; does nothing beyond the last.
  __device__ void load_tile(Tile<T>& stage, uint32_t tile, uint32_t id) const {
    const int partner_dim = static_cast<int>(params.partner_dim);
    if (tile < source_tiles()) {
      const int rows = sources.rows_from(tile * kTileRows);
      load_rows_by_id<kPartnerColumns, kWideStride>(stage.wide, partner, params.partner.stride_row, id, rows,
                                                    first_partner, partner_dim, layout.partner_vectors);
      load_rows_by_id<kOwnedColumns, kNarrowStride>(stage.narrow, direction, params.direction.stride_row, id, rows,
                                                    first_column, static_cast<int>(params.direction_dim),
                                                    layout.direction_vectors);
    } else if (tile < tiles()) {
      load_rows_by_id<kPartnerColumns, kWideStride>(stage.wide, own, params.own.stride_row, id,
                                                    targets.rows_from((tile - source_tiles()) * kTileRows),
                                                    first_partner, partner_dim, layout.own_vectors);
    }
  }

  // Calls f(result, c, i) for each result that element x[i] of accumulator c is added to. Accumulators hold columns g
  // and g + 8 of the targets 2t, 2t + 1, 2t + 8 and 2t + 9 of a tile of `rows` targets (g and t as in mma_ptx.cuh).
  template <typename F>
  __device__ void for_each_result(uint32_t id, int rows, F f) const {
    const int lane = threadIdx.x % kWarp, column = first_column + lane / 4;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int target = i / 2 * 8 + lane % 4 * 2 + i % 2;
      float* row = out + __shfl_sync(kWholeWarp, id, target) * float_row(params.direction_dim) + column;
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (target < rows && column + half * 8 < params.direction_dim) f(row[half * 8], i / 2, i % 2 + 2 * half);
      }
    }
  }

  // Adds the bucket's sums, for these columns of partner, to the results.
  __device__ void run() const {
    TilePipeline<T, BucketWork> pipeline(*this, stages);
    Accumulator moment_sums[kPartnerFragments][2] = {};
#pragma unroll 1
    while (pipeline.tile() < source_tiles()) {
      pipeline.start_next();
      const Tile<T>& tile = pipeline.wait();
      const auto a = P::load_a_transposed(tile.narrow, kNarrowStride);
#pragma unroll
      for (int part = 0; part < kPartnerFragments; ++part) {
        // Tensor cores truncate as they add, which would drift over a large bucket, so they only sum within a tile.
        Accumulator sums[2] = {};
        P::multiply_add(sums, a, P::load_b(tile.wide + part * 16, kWideStride));
#pragma unroll
        for (int i = 0; i < 8; ++i) moment_sums[part][i / 4].x[i % 4] += sums[i / 4].x[i % 4];
        if (part + 1 < kPartnerFragments) __syncwarp();  // for the compiler, as in Product<float>: else registers spill
      }
      pipeline.release();
    }
    const Moment<T> moment(moment_sums);
#pragma unroll 1
    while (pipeline.tile() < tiles()) {
      const int rows = targets.rows_from((pipeline.tile() - source_tiles()) * kTileRows);
      // The results so far are read before the wait, so that the read overlaps with the copies.
      Accumulator before[2] = {}, sums[2] = {};
      for_each_result(pipeline.row_id(), rows, [&](float& x, int c, int i) { before[c].x[i] = x; });
      pipeline.start_next();
      moment.multiply(sums, pipeline.wait().wide, kWideStride);
      for_each_result(pipeline.row_id(), rows,
                      [&](float& x, int c, int i) { x = before[c].x[i] + sums[c].x[i] * moment.inverse_scale(); });
      pipeline.release();
    }
  }
};

}  // namespace yoso::cuda
