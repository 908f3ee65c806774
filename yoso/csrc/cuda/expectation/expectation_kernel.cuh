// The kernel of expectation.h. A warp owns 16 or 32 rows and keeps their results in registers. The CTA's warps share
// tiles of the other rows in shared memory; the next tile is copied while the warps work on one. A step takes 16 or 32
// rows of the tile: cosines (and for grad_x the products own.value . other.value) on the tensor cores, weights in
// registers, and the weights, rounded to the inputs' type, times the other rows on the tensor cores again. There is no
// softmax, so no maximum and no rescaling. Only the results are written, and each is summed in one fixed order.
#pragma once

#include <cmath>
#include <type_traits>

#include "expectation_products.cuh"
#include "expectation_rows.cuh"
#include "expectation_shapes.cuh"
#include "expectation_weights.cuh"

namespace yoso::cuda {

struct ExpectationLayout {
  float sum_scale, grad_x_scale;  // factors of the results
  float slope_scale;              // factor of the slopes before they are rounded, see kBase
  bool x_vectors, value_vectors;  // see load_rows
};

// Adds the first `rows` rows of a tile to the results of this warp's rows. tau and exact are those of with_tau.
template <typename T, int kDim, bool kSum, bool kGradX, int kRowFragments, typename OwnX, typename OwnValue,
          typename Tau>
__device__ __forceinline__ void work_on_tile(Accumulator (&sum)[kRowFragments][kDim / 16][2],
                                             Accumulator (&grad_x)[kRowFragments][kDim / 16][2], const OwnX& own_x,
                                             const OwnValue& own_value, const T* tile, int rows, Tau tau, bool exact,
                                             float slope_scale) {
  using Tiling = ExpectationTiling<T, kDim, kSum, kGradX>;
  // The exact gradient, whose tau is not constant, keeps more in registers and needs a shorter step.
  constexpr bool kExact = Tiling::kShape.constant_tau && std::is_same_v<Tau, int>;
  constexpr int kStep = kExact ? 16 : Tiling::kShape.step_rows;
  constexpr int kGroups = kStep / 16, kStride = Tiling::kStride, kValueTile = Tiling::kTileRows * kStride;
  const T* transposed = tile + Product<T>::b_transposed_lane_offset(kStride);
  const T* plain = tile + Product<T>::b_lane_offset(kStride);
#pragma unroll 1
  for (int row = 0; row < rows; row += kStep) {
    const int step = row * kStride;
    Accumulator weights[kRowFragments * kGroups][2];
    multiply_rows<T, kDim, kRowFragments, kGroups, kStride>(weights, own_x, transposed + step);
    if constexpr (kGradX) {
      Accumulator slopes[kRowFragments * kGroups][2];
      multiply_rows<T, kDim, kRowFragments, kGroups, kStride>(slopes, own_value, transposed + kValueTile + step);
      to_weights_and_slopes<T, kSum>(weights, slopes, tau, exact);
      if constexpr (kBase<T, kSum> != 1.0f) for_each(slopes, [&](float& y, int) { y *= slope_scale; });
      add_weighted<T, kDim, kRowFragments, kGroups, kStride>(grad_x, slopes, plain + step);
    } else {
      to_weights<T, kSum>(weights, tau);
    }
    if constexpr (kSum) {
      add_weighted<T, kDim, kRowFragments, kGroups, kStride>(sum, weights, plain + kValueTile + step);
    }
  }
}

template <typename T, int kDim, bool kSum, bool kGradX>
__global__ void __launch_bounds__(ExpectationTiling<T, kDim, kSum, kGradX>::kThreads,
                                  ExpectationTiling<T, kDim, kSum, kGradX>::kShape.ctas_per_sm)
    expectation_kernel(const ExpectationParams p, const ExpectationLayout layout) {
  using Tiling = ExpectationTiling<T, kDim, kSum, kGradX>;
  constexpr ExpectationShape kShape = Tiling::kShape;
  constexpr int kRowFragments = Tiling::kRowFragments, kStride = Tiling::kStride;
  constexpr int kThreads = Tiling::kThreads, kOwnRows = Tiling::kOwnRows, kTileRows = Tiling::kTileRows;

  // Counts fit 32 bits (launch_shape checks them); a row's offset in memory need not.
  const int own_count = static_cast<int>(p.own.count), other_count = static_cast<int>(p.other.count);
  const unsigned ctas_per_head = (static_cast<unsigned>(own_count) + kOwnRows - 1) / kOwnRows;
  const int head = blockIdx.x / ctas_per_head, first = blockIdx.x % ctas_per_head * kOwnRows;
  const int batch = head / static_cast<int>(p.heads), head_of_batch = head % static_cast<int>(p.heads);
  const bool* own_mask = p.own.mask == nullptr ? nullptr : p.own.mask + batch * p.own.count;
  const bool* other_mask = p.other.mask == nullptr ? nullptr : p.other.mask + batch * p.other.count;
  const T* other_x = head_start<T>(p.other.x, batch, head_of_batch);
  const T* other_value = head_start<T>(p.other.value, batch, head_of_batch);

  T* own_x_tile = dynamic_shared<T>();
  T* own_value_tile = own_x_tile + kOwnRows * kStride;
  T* tiles = own_x_tile + (kGradX ? 2 : 1) * kOwnRows * kStride;  // [stage][x, value][kTileRows][kStride]

  const auto load_tile = [&](int at, int stage) {
    T* tile = tiles + stage * 2 * kTileRows * kStride;
    load_rows<T, kTileRows, kDim, kStride, kThreads>(tile, other_x, p.other.x.stride_row, p.x_dim, layout.x_vectors,
                                                     other_mask, at, other_count);
    load_rows<T, kTileRows, kDim, kStride, kThreads>(tile + kTileRows * kStride, other_value, p.other.value.stride_row,
                                                     p.value_dim, layout.value_vectors, other_mask, at, other_count);
  };

  load_rows<T, kOwnRows, kDim, kStride, kThreads>(own_x_tile, head_start<T>(p.own.x, batch, head_of_batch),
                                                  p.own.x.stride_row, p.x_dim, layout.x_vectors, own_mask, first,
                                                  own_count);
  if constexpr (kGradX) {
    load_rows<T, kOwnRows, kDim, kStride, kThreads>(own_value_tile, head_start<T>(p.own.value, batch, head_of_batch),
                                                    p.own.value.stride_row, p.value_dim, layout.value_vectors, own_mask,
                                                    first, own_count);
  }
  load_tile(0, 0);
  wait_for_all_copies();
  __syncthreads();

  const int warp_row = threadIdx.x / kWarp * kRowFragments * 16;
  const OwnRows<T, kDim, kRowFragments, kStride, kShape.own_x_in_registers> own_x(own_x_tile + warp_row * kStride);
  const OwnRows<T, kDim, kRowFragments, kStride, kShape.own_value_in_registers> own_value(
      (kGradX ? own_value_tile : own_x_tile) + warp_row * kStride);
  Accumulator sum[kRowFragments][kDim / 16][2], grad_x[kRowFragments][kDim / 16][2];
#pragma unroll
  for (int fragment = 0; fragment < kRowFragments; ++fragment) {
    for_each(sum[fragment], [](float& x, int) { x = 0; });
    for_each(grad_x[fragment], [](float& x, int) { x = 0; });
  }

  // With two stages, the copy of the next tile into the other stage overlaps with the work on this tile. With one, it
  // starts after all warps have finished this tile. In both cases the last barrier of an iteration makes the next tile
  // visible to all warps, and keeps a stage from being overwritten while a warp still reads it.
  int stage = 0;
  for (int at = 0; at < other_count; at += kTileRows) {
    const T* tile = tiles + stage * 2 * kTileRows * kStride;
    if constexpr (kShape.stages == 2) {
      stage ^= 1;
      if (at + kTileRows < other_count) load_tile(at + kTileRows, stage);
    }
    const int rows = min(kTileRows, other_count - at);
    with_tau<kShape.constant_tau, kGradX>(p.hash_code_len, p.exact_gradient, [&](auto tau, bool exact) {
      work_on_tile<T, kDim, kSum, kGradX>(sum, grad_x, own_x, own_value, tile, rows, tau, exact, layout.slope_scale);
    });
    if constexpr (kShape.stages == 1) {
      __syncthreads();
      if (at + kTileRows < other_count) load_tile(at + kTileRows, 0);
    }
    wait_for_all_copies();
    __syncthreads();
  }

#pragma unroll
  for (int fragment = 0; fragment < kRowFragments; ++fragment) {
    const int row = first + warp_row + fragment * 16;
    if constexpr (kSum) {
      if (!kGradX && p.float32_sum) {
        store_rows<float>(p.sum, head, row, own_count, p.value_dim, own_mask, sum[fragment], layout.sum_scale);
      } else {
        store_rows<T>(p.sum, head, row, own_count, p.value_dim, own_mask, sum[fragment], layout.sum_scale);
      }
    }
    if constexpr (kGradX) {
      store_rows<T>(p.grad_x, head, row, own_count, p.x_dim, own_mask, grad_x[fragment], layout.grad_x_scale);
    }
  }
}

inline bool are_vectors(const Rows& own, const Rows& other, int dim, int element_bytes) {
  return dim * element_bytes % 16 == 0 && rows_are_aligned(own, element_bytes, 16) &&
         rows_are_aligned(other, element_bytes, 16);
}

constexpr int64_t kMaxCount = INT32_MAX - 1024;  // the end of the last tile still fits 32 bits

template <typename T, int kDim, bool kSum, bool kGradX>
cudaError_t launch_shape(const ExpectationParams& p, cudaStream_t stream) {
  using Tiling = ExpectationTiling<T, kDim, kSum, kGradX>;
  const int64_t ctas = (p.own.count + Tiling::kOwnRows - 1) / Tiling::kOwnRows * p.batch * p.heads;
  if (ctas == 0) return cudaSuccess;
  if (ctas > INT32_MAX || p.own.count > kMaxCount || p.other.count > kMaxCount) return cudaErrorInvalidConfiguration;
  const int tau = p.hash_code_len;
  const double base = kBase<T, kSum>;
  ExpectationLayout layout;
  layout.sum_scale = static_cast<float>(std::pow(base, -tau));
  layout.grad_x_scale = static_cast<float>(p.exact_gradient ? tau / 3.14159265358979323846 : tau / 2.0);
  layout.slope_scale = static_cast<float>(std::pow(base, p.exact_gradient ? 1 - tau : -tau));
  layout.x_vectors = are_vectors(p.own.x, p.other.x, p.x_dim, sizeof(T));
  layout.value_vectors = are_vectors(p.own.value, p.other.value, p.value_dim, sizeof(T));
  return launch(expectation_kernel<T, kDim, kSum, kGradX>, dim3(static_cast<unsigned>(ctas)), dim3(Tiling::kThreads),
                Tiling::kSharedElements * sizeof(T), stream, p, layout);
}

template <typename T, int kDim>
cudaError_t launch_dim(const ExpectationParams& params, cudaStream_t stream) {
  if (params.grad_x == nullptr) return launch_shape<T, kDim, true, false>(params, stream);
  if (params.sum == nullptr) return launch_shape<T, kDim, false, true>(params, stream);
  if constexpr (find_expectation_shape(sizeof(T), kDim, kModeBoth) != nullptr) {
    return launch_shape<T, kDim, true, true>(params, stream);
  } else {
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
