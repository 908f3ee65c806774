// The kernel of expectation.h. A warp owns 16 or 32 rows and keeps their results in registers; the block's warps share
// tiles of the other side's rows in shared memory, the next tile being copied while one is worked on. A step takes 16
// or 32 rows of the tile: cosines (and products own.value . other.value) on the tensor cores, weights in registers, and
// the weights, rounded to the inputs' type, times the other rows on the tensor cores again. No softmax, so no maximum
// and no rescaling; nothing but the results is written, in one fixed order.
#pragma once

#include <cmath>
#include <type_traits>

#include "expectation_products.cuh"
#include "expectation_rows.cuh"
#include "expectation_weights.cuh"

namespace yoso::cuda {

// Blocks a multiprocessor, which is to say 65536 / 128 / blocks registers a thread: as many as do without spills.
constexpr int resident_blocks(bool half, int dim, bool slope, bool both) {
  if (dim == 32) return half ? 4 : 3;
  return half && ((dim == 64 && !slope) || (dim == 128 && !both)) ? 3 : 2;
}

// The shape of a block. Shared memory stays within the 99 KiB of sm_86 and sm_89; results, cosines and products within
// 255 registers a thread.
template <typename T, int kDim, bool kSum, bool kSlope>
struct ExpectationShape {
  static constexpr bool kHalf = sizeof(T) == 2;
  static constexpr int kWarps = !kHalf && kDim == 256 && kSlope ? 2 : 4;
  static constexpr int kThreads = kWarps * kWarp;
  // 32 rows a warp halve the reads of shared memory, which 16 rows keep busier than anything else (24 to 32 cycles a
  // pair in the gradient); from d = 128 on, registers are too few.
  static constexpr int kBlocks = kHalf && (kDim == 64 || (kDim == 32 && !kSlope)) ? 2 : 1;
  static constexpr int kStep = kBlocks == 1 && kHalf && kDim <= 128 ? 32 : 16;
  static constexpr int kTile = kHalf ? (kDim <= 64 ? 64 : kDim == 256 && kSlope ? 16 : 32) : (kDim <= 64 ? 32 : 16);
  static constexpr int kStages = !kHalf && kDim == 256 ? 1 : 2;
  static constexpr bool kOwnInRegisters = kHalf && kDim * (kSlope ? 2 : 1) <= 128;
  static constexpr bool kOwnValueInRegisters = kOwnInRegisters && !(kDim == 64 && kSum);
  // The loop once for every tau: compiling it takes long, so only where the products leave the weights most of the
  // time.
  static constexpr bool kConstantTau = kHalf && kDim <= 64;
  static constexpr int kResident = resident_blocks(kHalf, kDim, kSlope, kSum&& kSlope);
  static constexpr int kOwnRows = kWarps * kBlocks * 16;
  static constexpr int kStride = kDim + 16 / static_cast<int>(sizeof(T));  // ldmatrix without bank conflicts
  static constexpr int kElements = kStride * ((kSlope ? 2 : 1) * kOwnRows + kStages * 2 * kTile);
};

struct ExpectationLayout {
  float sum_scale, grad_x_scale;  // on the results
  float slope_scale;              // on the slopes before they are rounded, see kBase
  bool x_vectors, value_vectors;  // see load_rows
};

// Adds a tile's first `rows` rows to the results of this warp's. tau and exact as with_tau has them.
template <typename T, int kDim, bool kSum, bool kSlope, int kBlocks, typename OwnX, typename OwnValue, typename Tau>
__device__ __forceinline__ void work_on_tile(Accumulator (&sum)[kBlocks][kDim / 16][2],
                                             Accumulator (&grad_x)[kBlocks][kDim / 16][2], const OwnX& own_x,
                                             const OwnValue& own_value, const T* tile, int rows, Tau tau, bool exact,
                                             float slope_scale) {
  using Shape = ExpectationShape<T, kDim, kSum, kSlope>;
  // The exact gradient holds more, and has to do with shorter steps.
  constexpr int kStep = Shape::kConstantTau && std::is_same_v<Tau, int> ? 16 : Shape::kStep;
  constexpr int kGroups = kStep / 16, kStride = Shape::kStride, kValues = Shape::kTile * kStride;
  const T* by_rows = tile + Product<T>::b_of_rows_start(kStride);
  const T* by_columns = tile + Product<T>::b_of_columns_start(kStride);
#pragma unroll 1
  for (int row = 0; row < rows; row += kStep) {
    const int step = row * kStride;
    Accumulator weights[kBlocks * kGroups][2];
    multiply_rows<T, kDim, kBlocks, kGroups, kStride>(weights, own_x, by_rows + step);
    if constexpr (kSlope) {
      Accumulator slopes[kBlocks * kGroups][2];
      multiply_rows<T, kDim, kBlocks, kGroups, kStride>(slopes, own_value, by_rows + kValues + step);
      to_weights_and_slopes<T, kSum>(weights, slopes, tau, exact);
      if constexpr (kBase<T, kSum> != 1.0f) for_each(slopes, [&](float& y, int) { y *= slope_scale; });
      add_weighted<T, kDim, kBlocks, kGroups, kStride>(grad_x, slopes, by_columns + step);
    } else {
      to_weights<T, kSum>(weights, tau);
    }
    if constexpr (kSum) {
      add_weighted<T, kDim, kBlocks, kGroups, kStride>(sum, weights, by_columns + kValues + step);
    }
  }
}

template <typename T, int kDim, bool kSum, bool kSlope>
__global__ void __launch_bounds__(ExpectationShape<T, kDim, kSum, kSlope>::kThreads,
                                  ExpectationShape<T, kDim, kSum, kSlope>::kResident)
    expectation_kernel(const ExpectationParams p, const ExpectationLayout layout) {
  using Shape = ExpectationShape<T, kDim, kSum, kSlope>;
  constexpr int kBlocks = Shape::kBlocks, kStride = Shape::kStride;
  constexpr int kThreads = Shape::kThreads, kOwnRows = Shape::kOwnRows, kTile = Shape::kTile;

  // Counts fit 32 bits, as launch_shape sees to; a row's place in memory need not.
  const int own_count = static_cast<int>(p.own.count), other_count = static_cast<int>(p.other.count);
  const unsigned own_tiles = (static_cast<unsigned>(own_count) + kOwnRows - 1) / kOwnRows;
  const int head = blockIdx.x / own_tiles, first = blockIdx.x % own_tiles * kOwnRows;
  const int batch = head / static_cast<int>(p.heads), head_of_batch = head % static_cast<int>(p.heads);
  const bool* own_mask = p.own.mask == nullptr ? nullptr : p.own.mask + batch * p.own.count;
  const bool* other_mask = p.other.mask == nullptr ? nullptr : p.other.mask + batch * p.other.count;
  const T* other_x = head_start<T>(p.other.x, batch, head_of_batch);
  const T* other_value = head_start<T>(p.other.value, batch, head_of_batch);

  T* own_x_tile = dynamic_shared<T>();
  T* own_value_tile = own_x_tile + kOwnRows * kStride;
  T* tiles = own_x_tile + (kSlope ? 2 : 1) * kOwnRows * kStride;  // [stage][x, value][kTile][kStride]

  const auto load_tile = [&](int at, int stage) {
    T* tile = tiles + stage * 2 * kTile * kStride;
    load_rows<T, kTile, kDim, kStride, kThreads>(tile, other_x, p.other.x.stride_row, p.x_dim, layout.x_vectors,
                                                 other_mask, at, other_count);
    load_rows<T, kTile, kDim, kStride, kThreads>(tile + kTile * kStride, other_value, p.other.value.stride_row,
                                                 p.value_dim, layout.value_vectors, other_mask, at, other_count);
  };

  load_rows<T, kOwnRows, kDim, kStride, kThreads>(own_x_tile, head_start<T>(p.own.x, batch, head_of_batch),
                                                  p.own.x.stride_row, p.x_dim, layout.x_vectors, own_mask, first,
                                                  own_count);
  if constexpr (kSlope) {
    load_rows<T, kOwnRows, kDim, kStride, kThreads>(own_value_tile, head_start<T>(p.own.value, batch, head_of_batch),
                                                    p.own.value.stride_row, p.value_dim, layout.value_vectors, own_mask,
                                                    first, own_count);
  }
  load_tile(0, 0);
  wait_for_copies();
  __syncthreads();

  const int warp_row = threadIdx.x / kWarp * kBlocks * 16;
  const OwnRows<T, kDim, kBlocks, kStride, Shape::kOwnInRegisters> own_x(own_x_tile + warp_row * kStride);
  const OwnRows<T, kDim, kBlocks, kStride, Shape::kOwnValueInRegisters> own_value(
      (kSlope ? own_value_tile : own_x_tile) + warp_row * kStride);
  Accumulator sum[kBlocks][kDim / 16][2], grad_x[kBlocks][kDim / 16][2];
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    for_each(sum[block], [](float& x, int) { x = 0; });
    for_each(grad_x[block], [](float& x, int) { x = 0; });
  }

  int stage = 0;
  for (int at = 0; at < other_count; at += kTile) {
    const T* tile = tiles + stage * 2 * kTile * kStride;
    if constexpr (Shape::kStages == 2) {
      stage ^= 1;
      if (at + kTile < other_count) load_tile(at + kTile, stage);
    }
    const int rows = min(kTile, other_count - at);
    with_tau<Shape::kConstantTau, kSlope>(p.hash_code_len, p.exact_gradient, [&](auto tau, bool exact) {
      work_on_tile<T, kDim, kSum, kSlope>(sum, grad_x, own_x, own_value, tile, rows, tau, exact, layout.slope_scale);
    });
    if constexpr (Shape::kStages == 1) {
      __syncthreads();
      if (at + kTile < other_count) load_tile(at + kTile, 0);
    }
    wait_for_copies();
    __syncthreads();
  }

#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const int row = first + warp_row + block * 16;
    if constexpr (kSum) {
      store_rows<T>(p.sum, head, row, own_count, p.value_dim, own_mask, sum[block], layout.sum_scale);
    }
    if constexpr (kSlope) {
      store_rows<T>(p.grad_x, head, row, own_count, p.x_dim, own_mask, grad_x[block], layout.grad_x_scale);
    }
  }
}

inline bool are_vectors(const Rows& own, const Rows& other, int dim, int element_bytes) {
  return dim * element_bytes % 16 == 0 && rows_are_aligned(own, element_bytes, 16) &&
         rows_are_aligned(other, element_bytes, 16);
}

constexpr int64_t kMaxCount = INT32_MAX - 1024;  // a tile further still fits 32 bits

template <typename T, int kDim, bool kSum, bool kSlope>
cudaError_t launch_shape(const ExpectationParams& p, cudaStream_t stream) {
  using Shape = ExpectationShape<T, kDim, kSum, kSlope>;
  const int64_t blocks = (p.own.count + Shape::kOwnRows - 1) / Shape::kOwnRows * p.batch * p.heads;
  if (blocks == 0) return cudaSuccess;
  if (blocks > INT32_MAX || p.own.count > kMaxCount || p.other.count > kMaxCount) return cudaErrorInvalidConfiguration;
  const int tau = p.hash_code_len;
  const double base = kBase<T, kSum>;
  ExpectationLayout layout;
  layout.sum_scale = static_cast<float>(std::pow(base, -tau));
  layout.grad_x_scale = static_cast<float>(p.exact_gradient ? tau / 3.14159265358979323846 : tau / 2.0);
  layout.slope_scale = static_cast<float>(std::pow(base, p.exact_gradient ? 1 - tau : -tau));
  layout.x_vectors = are_vectors(p.own.x, p.other.x, p.x_dim, sizeof(T));
  layout.value_vectors = are_vectors(p.own.value, p.other.value, p.value_dim, sizeof(T));
  return launch(expectation_kernel<T, kDim, kSum, kSlope>, dim3(static_cast<unsigned>(blocks)), dim3(Shape::kThreads),
                Shape::kElements * sizeof(T), stream, p, layout);
}

template <typename T, int kDim>
cudaError_t launch_dim(const ExpectationParams& params, cudaStream_t stream) {
  if (params.grad_x == nullptr) return launch_shape<T, kDim, true, false>(params, stream);
  if (params.sum == nullptr) return launch_shape<T, kDim, false, true>(params, stream);
  if constexpr (kDim * sizeof(T) < 512) {
    return launch_shape<T, kDim, true, true>(params, stream);
  } else {  // registers hold one result only
    const cudaError_t error = launch_shape<T, kDim, true, false>(params, stream);
    return error != cudaSuccess ? error : launch_shape<T, kDim, false, true>(params, stream);
  }
}

template <typename T>
cudaError_t launch_expectation_of(const ExpectationParams& params, cudaStream_t stream) {
  const int dim = params.x_dim > params.value_dim ? params.x_dim : params.value_dim;
  if (dim <= 32) return launch_dim<T, 32>(params, stream);
  if (dim <= 64) return launch_dim<T, 64>(params, stream);
  if (dim <= 128) return launch_dim<T, 128>(params, stream);
  if (dim <= 256) return launch_dim<T, 256>(params, stream);
  return cudaErrorInvalidValue;
}

}  // namespace yoso::cuda
