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

template <typename T, int kVector, int kLanes, bool kBackward>
__global__ void __launch_bounds__(kThreads) unit_rows_kernel(UnitRowsParams params, unsigned ctas_per_head) {
  // 32-bit divisions: a 64-bit division costs as much as the rest of the kernel.
  const unsigned head = blockIdx.x / ctas_per_head, cta = blockIdx.x % ctas_per_head;
  const unsigned batch = head / static_cast<unsigned>(params.heads);
  const unsigned head_of_batch = head % static_cast<unsigned>(params.heads);
  const int64_t position = int64_t{cta} * (kThreads / kLanes) + threadIdx.x / kLanes;
  // Lanes beyond the last row read nothing but do not exit: the warp's shuffles need all lanes.
  const int vectors = position < params.length ? static_cast<int>(params.dim / kVector) : 0;
  const int lane = threadIdx.x % kLanes;
  const auto* x = row_start<T, kVector>(params.x, batch, head_of_batch, position);
  const auto* grad = row_start<T, kVector>(params.grad, batch, head_of_batch, position);

  float square = 0, along = 0;  // sums over the row: x . x, and x . grad
  for (int i = lane; i < vectors; i += kLanes) {
    const auto values = x[i];
#pragma unroll
    for (int c = 0; c < kVector; ++c) {
      square += static_cast<float>(values.element[c]) * static_cast<float>(values.element[c]);
    }
    if constexpr (kBackward) {
      const auto grads = grad[i];
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        along += static_cast<float>(values.element[c]) * static_cast<float>(grads.element[c]);
      }
    }
  }
  square = sum_over_lanes<kLanes>(square);
  const float norm = square == 0 ? 1.0f : sqrtf(square);
  // With y = x / |x|, the gradient is (grad - y (y . grad)) / |x|; zero for a zero row.
  const float inverse = square == 0 ? 0.0f : 1.0f / norm;
  if constexpr (kBackward) along = sum_over_lanes<kLanes>(along) * inverse * inverse;

  auto* out = reinterpret_cast<ElementVector<T, kVector>*>(static_cast<T*>(params.out) +
                                                           (int64_t{head} * params.length + position) * params.dim);
  for (int i = lane; i < vectors; i += kLanes) {
    const auto values = x[i];
    ElementVector<T, kVector> results;
    if constexpr (kBackward) {
      const auto grads = grad[i];
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const float across = static_cast<float>(grads.element[c]) - static_cast<float>(values.element[c]) * along;
        results.element[c] = static_cast<T>(across * inverse);
      }
    } else {
      // A quotient, not the product with the inverse, so that a row of one entry becomes exactly 1 or -1. The product
      // and one Newton step give the quotient without the branch that a division has for extreme operands.
#pragma unroll
      for (int c = 0; c < kVector; ++c) {
        const float value = static_cast<float>(values.element[c]), product = value * inverse;
        results.element[c] = static_cast<T>(fmaf(fmaf(-product, norm, value), inverse, product));
      }
    }
    out[i] = results;
  }
}

template <typename T, int kVector, int kLanes>
cudaError_t launch_lanes(const UnitRowsParams& params, cudaStream_t stream) {
  constexpr int64_t kRowsPerCta = kThreads / kLanes;
  const int64_t ctas_per_head = (params.length + kRowsPerCta - 1) / kRowsPerCta;
  const int64_t ctas = params.batch * params.heads * ctas_per_head;
  if (ctas > INT32_MAX) return cudaErrorInvalidConfiguration;
  const auto kernel =
      params.grad.data ? unit_rows_kernel<T, kVector, kLanes, true> : unit_rows_kernel<T, kVector, kLanes, false>;
  return launch(kernel, dim3(static_cast<unsigned>(ctas)), dim3(kThreads), 0, stream, params,
                static_cast<unsigned>(ctas_per_head));
}

template <typename T, int kVector>
cudaError_t launch_vectors(const UnitRowsParams& params, cudaStream_t stream) {
  if (params.dim <= 16 * kVector) return launch_lanes<T, kVector, 8>(params, stream);
  return launch_lanes<T, kVector, kWarp>(params, stream);
}

}  // namespace

cudaError_t launch_unit_rows(const UnitRowsParams& params, cudaStream_t stream) {
  return with_dtype(params.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    constexpr int kVector = kVectorBytes / sizeof(T);
    const bool in_vectors = params.dim % kVector == 0 && rows_are_aligned(params.x, sizeof(T), kVectorBytes) &&
                            rows_are_aligned(params.grad, sizeof(T), kVectorBytes);
    return in_vectors ? launch_vectors<T, kVector>(params, stream) : launch_vectors<T, 1>(params, stream);
  });
}

}  // namespace yoso::cuda
