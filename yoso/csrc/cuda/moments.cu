// A block owns some columns of one head's results and goes through the hashes in order, so each number is added up in
// one order without atomics; a warp takes a crowded bucket at a time. The moment, transposed, comes out of the tensor
// cores into the registers where they want it for the product with the targets' rows.
#include <type_traits>

#include "crowded_sums.h"
#include "cumulation_rows.cuh"
#include "mma.cuh"
#include "moments.h"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;     // of a block
constexpr int kRows = 16;     // of a tile
constexpr int kOwned = 16;    // columns of direction that a block owns
constexpr int kPartner = 64;  // columns of partner at a time
constexpr int kParts = kPartner / 16;

// One warp's rows. The strides let ldmatrix read without bank conflicts.
template <typename T>
struct Tiles {
  static constexpr int kPad = 16 / static_cast<int>(sizeof(T));
  static constexpr int kWide = kPartner + kPad, kNarrow = kOwned + kPad;
  __align__(16) T wide[kRows * kWide];      // of partner or own
  __align__(16) T narrow[kRows * kNarrow];  // of direction
};

struct Layout {
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
#pragma unroll 2
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
  uint32_t size, only;  // of one token there is no list, only the id

  // This lane's id of the next kRows from `at` on; any where there are fewer.
  __device__ uint32_t id(uint32_t at) const {
    const uint32_t place = at + threadIdx.x % kWarp;
    if (size == 1) return only;
    return threadIdx.x % kWarp < kRows && place < size ? ids[place] : 0;
  }
  __device__ int left(uint32_t at) const { return static_cast<int>(min(size - at, 1u * kRows)); }
};

// The bucket that a token looks up.
__device__ Bucket looked_up(const Buckets& buckets, int64_t index, uint32_t token) {
  const uint32_t entry = buckets.entries[index * buckets.num_query + token], first = entry >> kEntryShift;
  uint2 found = make_uint2(first, entry & kCrowded);
  if (found.y == kCrowded) found = buckets.crowded[index * buckets.crowded_capacity + first];
  return {buckets.ids + index * buckets.num_key + found.x, found.y, first};
}

// A moment [kOwned, kPartner] as fragments that multiply rows of `own`: exact enough for float32 sums whatever T.
template <typename T>
struct Moment {
  using A = typename Product<T>::A;
  static constexpr bool kHalf = sizeof(T) == 2;
  A rounded[kParts], rest[kHalf ? kParts : 1];
  float unscale = 1;

  __device__ explicit Moment(Accumulator (&sums)[kParts][2]) {
    if constexpr (std::is_same_v<T, __half>) into_range(sums);
#pragma unroll
    for (int part = 0; part < kParts; ++part) {
      rounded[part] = Product<T>::a_of(sums[part]);
      if constexpr (kHalf) rest[part] = Product<T>::rest_of(sums[part], rounded[part]);
    }
  }

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
    const float scale = __uint_as_float((268 - exponent) << 23);
    unscale = __uint_as_float((exponent - 14) << 23);
#pragma unroll
    for (int i = 0; i < kParts * 8; ++i) sums[i / 8][i / 4 % 2].x[i % 4] *= scale;
  }
};

// What a warp needs of one head.
template <typename T>
struct Head {
  const T *own, *partner, *direction;
  float* out;
};

template <typename T>
__device__ void add_bucket(const MomentsParams& params, const Layout& layout, const Head<T>& head, Tiles<T>& tiles,
                           int first_column, const Bucket& sources, const Bucket& targets) {
  using P = Product<T>;
  constexpr int kWide = Tiles<T>::kWide, kNarrow = Tiles<T>::kNarrow;
  const int lane = threadIdx.x % kWarp;
  const int partner_dim = static_cast<int>(params.partner_dim), direction_dim = static_cast<int>(params.direction_dim);
  const int column = first_column + lane / 4;
  const int64_t stride = float_row(params.direction_dim);
  float* out = head.out + column;
#pragma unroll 1
  for (int first_partner = 0; first_partner < partner_dim; first_partner += kPartner) {
    Accumulator sums[kParts][2] = {};
    uint32_t id = sources.id(0);
#pragma unroll 1
    for (uint32_t at = 0; at < sources.size; at += kRows) {
      gather<kPartner, kWide>(tiles.wide, head.partner, params.partner.stride_row, id, sources.left(at), first_partner,
                              partner_dim, layout.partner_vectors);
      gather<kOwned, kNarrow>(tiles.narrow, head.direction, params.direction.stride_row, id, sources.left(at),
                              first_column, direction_dim, layout.direction_vectors);
      id = sources.id(at + kRows);
      wait_for_copies();
      __syncwarp();
      const auto a = P::load_a_of_columns(tiles.narrow, kNarrow);
#pragma unroll
      for (int part = 0; part < kParts; ++part) {
        P::add(sums[part], a, P::load_b_of_columns(tiles.wide + part * 16, kWide));
      }
      __syncwarp();
    }
    const Moment<T> moment(sums);
    id = targets.id(0);
#pragma unroll 1
    for (uint32_t at = 0; at < targets.size; at += kRows) {
      const int left = targets.left(at);
      gather<kPartner, kWide>(tiles.wide, head.own, params.own.stride_row, id, left, first_partner, partner_dim,
                              layout.own_vectors);
      // This lane's part of the result: of columns g and g + 8, targets 2t, 2t + 1, 2t + 8, 2t + 9.
      const auto for_each_of_mine = [&](auto f) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int target = i / 2 * 8 + lane % 4 * 2 + i % 2;
          float* row = out + __shfl_sync(kWholeWarp, id, target) * stride;
#pragma unroll
          for (int half = 0; half < 2; ++half) {
            if (target < left && column + half * 8 < direction_dim) f(row[half * 8], i / 2, i % 2 + 2 * half);
          }
        }
      };
      Accumulator before[2] = {}, sums[2] = {};
      for_each_of_mine([&](float& x, int c, int i) { before[c].x[i] = x; });
      const uint32_t next = targets.id(at + kRows);
      wait_for_copies();
      __syncwarp();
      moment.multiply(sums, tiles.wide, kWide);
      for_each_of_mine([&](float& x, int c, int i) { x = before[c].x[i] + sums[c].x[i] * moment.unscale; });
      id = next;
      __syncwarp();
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kWarps* kWarp, sizeof(T) == 2 ? 2 : 1)
    add_moments(MomentsParams params, const Layout layout) {
  __shared__ Tiles<T> tiles[kWarps];
  const Buckets& sources = params.sources;
  const unsigned head_index = blockIdx.x / layout.blocks_a_head;
  const int first_column = static_cast<int>(blockIdx.x % layout.blocks_a_head) * kOwned, warp = threadIdx.x / kWarp;
  const int64_t first_index = int64_t{head_index} * sources.num_hash;
  bool any = false;
  for (int h = threadIdx.x; h < sources.num_hash; h += blockDim.x) any |= sources.crowded_count[first_index + h] > 0;
  if (!__syncthreads_or(any)) return;

  const int64_t num_target = params.targets.num_key, stride = float_row(params.direction_dim);
  const unsigned global_head = static_cast<unsigned>(params.first_head) + head_index;
  const Head<T> head{head_rows<T>(params.own, global_head, params.heads_per_batch),
                     head_rows<T>(params.partner, global_head, params.heads_per_batch),
                     head_rows<T>(params.direction, global_head, params.heads_per_batch),
                     params.out + head_index * num_target * stride};
  for (int64_t i = threadIdx.x; i < num_target * kOwned; i += blockDim.x) {
    const int64_t column = first_column + i % kOwned;
    if (column < stride) head.out[i / kOwned * stride + column] = 0;
  }
  __syncthreads();
#pragma unroll 1
  for (int hash = 0; hash < sources.num_hash; ++hash) {
    const int64_t index = first_index + hash;
    const uint32_t count = sources.crowded_count[index];
    for (uint32_t b = warp; b < count; b += kWarps) {
      const uint2 found = sources.crowded[index * sources.crowded_capacity + b];
      const Bucket bucket{sources.ids + index * sources.num_key + found.x, found.y, 0};
      const Bucket targets = looked_up(params.targets, index, bucket.ids[0]);
      if (targets.size > 0) add_bucket(params, layout, head, tiles[warp], first_column, bucket, targets);
    }
    if (count > 0) __syncthreads();
  }
}

}  // namespace

int64_t moment_blocks(int64_t direction_dim) { return (direction_dim + kOwned - 1) / kOwned; }

cudaError_t launch_moments(const MomentsParams& params, cudaStream_t stream) {
  if (params.sources.crowded_capacity == 0) return cudaSuccess;
  const int64_t blocks_a_head = moment_blocks(params.direction_dim);
  const Layout layout{static_cast<unsigned>(blocks_a_head), in_vectors(params.own, params.partner_dim, params.dtype),
                      in_vectors(params.partner, params.partner_dim, params.dtype),
                      in_vectors(params.direction, params.direction_dim, params.dtype)};
  return with_dtype(params.dtype, [&](auto* type) {
    return launch(add_moments<std::remove_pointer_t<decltype(type)>>,
                  dim3(static_cast<unsigned>(params.heads * blocks_a_head)), dim3(kWarps * kWarp), 0, stream, params,
                  layout);
  });
}

}  // namespace yoso::cuda
