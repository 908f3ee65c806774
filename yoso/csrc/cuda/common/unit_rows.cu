// A group of 8 or 32 lanes processes one row and reads it twice: once for the sum of squares, and once, from the L1
// cache, to scale it. So rows of any length need no storage, and each byte is read from device memory once.
#include <type_traits>

#include "unit_rows.h"

namespace yoso::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kVectorBytes = 16;

// kVector elements that are loaded and stored as one vector.
template <typename T, int kVector>
struct alignas(sizeof(T) * kVector) ElementVector {
  T element[kVector];
};

template <int kLanes>
__device__ float sum_over_lanes(float value) {
  for (int step = kLanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(kWholeWarp, value, step);
  return value;
}

template <typename T, int kVector>
__device__ const ElementVector<T, kVector>* row_start(const Rows& rows, int64_t batch, int64_t head, int64_t position) {
  return reinterpret_cast<const ElementVector<T, kVector>*>(static_cast<const T*>(rows.data) +
                                                            batch * rows.stride_batch + head * rows.stride_head +
                                                            position * rows.stride_row);
}

// Sums of squares in this range are exact to rounding: no square that matters has underflowed, and none overflowed.
constexpr float kSmallestSquare = 0x1p-80f, kLargestSquare = 0x1p+120f;

// The sums over a row, whose elements are multiplied by scale.
struct RowSums {
  float square = 0, along = 0, largest = 0;  // x . x, x . grad, and the largest magnitude

  template <int kLanes, bool kBackward, typename X, typename Grad>
  __device__ void add_row(const X* x, const Grad* grad, float scale, int vectors, int lane) {
    for (int i = lane; i < vectors; i += kLanes) {
      const X values = x[i];
      constexpr int kVector = sizeof(values.element) / sizeof(values.element[0]);
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const float value = static_cast<float>(values.element[c]) * scale;
        square += value * value;
        largest = fmaxf(largest, fabsf(value));
      }
      if constexpr (kBackward) {
        const Grad grads = grad[i];
#pragma unroll
        for (int c = 0; c < kVector; ++c) {
          along += static_cast<float>(values.element[c]) * scale * static_cast<float>(grads.element[c]);
        }
      }
    }
    square = sum_over_lanes<kLanes>(square);
    if constexpr (kBackward) along = sum_over_lanes<kLanes>(along);
    for (int step = kLanes / 2; step > 0; step /= 2) {
      largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, step));
    }
  }

  __device__ void add_floor(float floor) {
    square += floor * floor;
    largest = fmaxf(largest, fabsf(floor));
  }

  __device__ bool ordinary() const {
    return (square == 0 && largest == 0) || (square >= kSmallestSquare && square <= kLargestSquare);
  }
};

// The power of two that brings this magnitude near 1; it and its reciprocal are normal numbers.
__device__ inline float power_of_two_for(float largest) {
  const int exponent = __float_as_uint(largest) >> 23 & 0xff;
  return __uint_as_float(static_cast<uint32_t>(max(254 - exponent, 1)) << 23);
}

// Rows of type T, and unit rows, or their gradient, of type U.
template <typename T, typename U, int kVector, int kLanes, bool kBackward>
__global__ void __launch_bounds__(kThreads) unit_rows_kernel(UnitRowsParams params, unsigned ctas_per_head) {
  using Out = std::conditional_t<kBackward, T, U>;
  // 32-bit divisions: a 64-bit division costs as much as the rest of the kernel.
  const unsigned head = blockIdx.x / ctas_per_head, cta = blockIdx.x % ctas_per_head;
  const unsigned batch = head / static_cast<unsigned>(params.heads);
  const unsigned head_of_batch = head % static_cast<unsigned>(params.heads);
  const int64_t position = int64_t{cta} * (kThreads / kLanes) + threadIdx.x / kLanes;
  // Lanes beyond the last row read nothing but do not exit: the warp's shuffles need all lanes.
  const int vectors = position < params.length ? static_cast<int>(params.dim / kVector) : 0;
  const int lane = threadIdx.x % kLanes;
  const auto* x = row_start<T, kVector>(params.x, batch, head_of_batch, position);
  const auto* grad = row_start<U, kVector>(params.grad, batch, head_of_batch, position);

  const float floor = params.floor ? params.floor[head] : 0.0f;
  RowSums sums;
  sums.add_row<kLanes, kBackward>(x, grad, 1.0f, vectors, lane);
  sums.add_floor(floor);
  float scale = 1;
  // All rows of the warp are summed again where one is very long or short, because the sums need all lanes.
  if (__any_sync(kWholeWarp, !sums.ordinary())) {
    if (!sums.ordinary()) scale = power_of_two_for(sums.largest);
    sums = {};
    sums.add_row<kLanes, kBackward>(x, grad, scale, vectors, lane);
    sums.add_floor(floor * scale);
  }
  const float norm = sums.square == 0 ? 1.0f : sqrtf(sums.square);
  // With n = sqrt(|x|^2 + floor^2) and y = x / n, the gradient of x is (grad - y (y . grad)) / n, and a row's share of
  // the gradient of floor is -(y . grad) floor / n^2. Both are zero where n is.
  const float inverse = sums.square == 0 ? 0.0f : 1.0f / norm;
  const float along = sums.along * inverse * inverse;
  if constexpr (kBackward) {
    if (params.grad_floor && lane == 0 && position < params.length) {
      params.grad_floor[int64_t{head} * params.length + position] = -along * (floor * scale) * inverse * scale;
    }
  }

  auto* out = reinterpret_cast<ElementVector<Out, kVector>*>(static_cast<Out*>(params.out) +
                                                             (int64_t{head} * params.length + position) * params.dim);
  for (int i = lane; i < vectors; i += kLanes) {
    const auto values = x[i];
    ElementVector<Out, kVector> results;
    if constexpr (kBackward) {
      const auto grads = grad[i];
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const float value = static_cast<float>(values.element[c]) * scale;
        const float across = static_cast<float>(grads.element[c]) - value * along;
        results.element[c] = static_cast<Out>(across * inverse * scale);
      }
    } else {
      // A quotient, not the product with the inverse, so that a row of one entry becomes exactly 1 or -1. The product
      // and one Newton step give the quotient without the branch that a division has for extreme operands.
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const float value = static_cast<float>(values.element[c]) * scale, product = value * inverse;
        results.element[c] = static_cast<Out>(fmaf(fmaf(-product, norm, value), inverse, product));
      }
    }
    out[i] = results;
  }
}

template <typename T, typename U, int kVector, int kLanes>
cudaError_t launch_lanes(const UnitRowsParams& params, cudaStream_t stream) {
  constexpr int64_t kRowsPerCta = kThreads / kLanes;
  const int64_t ctas_per_head = (params.length + kRowsPerCta - 1) / kRowsPerCta;
  const int64_t ctas = params.batch * params.heads * ctas_per_head;
  if (ctas > INT32_MAX) return cudaErrorInvalidConfiguration;
  const auto kernel =
      params.grad.data ? unit_rows_kernel<T, U, kVector, kLanes, true> : unit_rows_kernel<T, U, kVector, kLanes, false>;
  return launch(kernel, dim3(static_cast<unsigned>(ctas)), dim3(kThreads), 0, stream, params,
                static_cast<unsigned>(ctas_per_head));
}

template <typename T, typename U, int kVector>
cudaError_t launch_vectors(const UnitRowsParams& params, cudaStream_t stream) {
  if (params.dim <= 16 * kVector) return launch_lanes<T, U, kVector, 8>(params, stream);
  return launch_lanes<T, U, kVector, kWarp>(params, stream);
}

template <typename T, typename U>
cudaError_t launch_types(const UnitRowsParams& params, cudaStream_t stream) {
  constexpr int kVector = kVectorBytes / sizeof(T);
  const bool in_vectors = params.dim % kVector == 0 && rows_are_aligned(params.x, sizeof(T), kVectorBytes) &&
                          rows_are_aligned(params.grad, sizeof(U), kVector * sizeof(U));
  return in_vectors ? launch_vectors<T, U, kVector>(params, stream) : launch_vectors<T, U, 1>(params, stream);
}

}  // namespace

cudaError_t launch_unit_rows(const UnitRowsParams& params, cudaStream_t stream) {
  return with_dtype(params.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    if (params.unit_dtype == params.dtype) return launch_types<T, T>(params, stream);
    if constexpr (std::is_same_v<T, float>) {
      return with_dtype(params.unit_dtype, [&](auto* unit_type) {
        return launch_types<float, std::remove_pointer_t<decltype(unit_type)>>(params, stream);
      });
    } else {
      return cudaErrorInvalidValue;
    }
  });
}

}  // namespace yoso::cuda
