// The base of every kernel file: CUDA's headers, element types, a tensor as kernels see it, and the launch function.
// It includes nothing of torch, so that the same files compile with nvcc and, against the host shim in
// tests/cuda_shim, with g++.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace yoso::cuda {

enum class Dtype : int32_t { kFloat32, kBFloat16, kFloat16 };

constexpr int kWarp = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

// Calls f with a null pointer whose type is the element type of dtype. f uses only the pointer's type.
template <typename F>
cudaError_t with_dtype(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::kFloat32:
      return f(static_cast<float*>(nullptr));
    case Dtype::kBFloat16:
      return f(static_cast<__nv_bfloat16*>(nullptr));
    case Dtype::kFloat16:
      return f(static_cast<__half*>(nullptr));
  }
  return cudaErrorInvalidValue;
}

// A tensor [B, H, N, D] in device memory. The D elements of a row are contiguous; strides are in elements.
struct Rows {
  const void* data;
  int64_t stride_batch, stride_head, stride_row;
};

// Whether every row starts at a multiple of `bytes`, so that it can be read in vectors of that size.
inline bool rows_are_aligned(const Rows& rows, int64_t bytes_per_element, int64_t bytes) {
  const int64_t strides = rows.stride_batch | rows.stride_head | rows.stride_row;
  return reinterpret_cast<uintptr_t>(rows.data) % bytes == 0 && strides * bytes_per_element % bytes == 0;
}

#ifdef __CUDACC__
// A kernel may use 48 KiB of shared memory, static and dynamic together, without opting in to more. Dynamic shared
// memory beyond kDefaultSharedBytes opts in; the rest of the 48 KiB is left for static arrays.
constexpr size_t kDefaultSharedBytes = 32 * 1024, kOptInSharedBytes = 96 * 1024;

// Launches a kernel and returns the launch's error. Opts in to more dynamic shared memory where that is needed; a
// device that does not have it returns an error, never a wrong result. The limit belongs to the kernel and is shared by
// all host threads, so it is set to at least kOptInSharedBytes: a smaller launch never lowers another thread's limit.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Arguments... arguments) {
  if (shared_bytes > kDefaultSharedBytes) {
    const size_t limit = shared_bytes > kOptInSharedBytes ? shared_bytes : kOptInSharedBytes;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(limit));
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  return cudaGetLastError();
}

// The CTA's dynamic shared memory, aligned to 16 bytes.
template <typename T>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char yoso_dynamic_shared[];
  return reinterpret_cast<T*>(yoso_dynamic_shared);
}
#endif  // without nvcc, tests/cuda_shim/cuda_runtime.h declares launch and dynamic_shared in this namespace

}  // namespace yoso::cuda
