// What every kernel file builds on: CUDA's own headers, element types and one way to launch. No torch here, so that the
// same files compile with nvcc and, against the host shim in tests/cuda_shim, with g++.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace yoso::cuda {

enum class Dtype : int32_t { kFloat32, kBFloat16, kFloat16 };

constexpr int kWarp = 32;
constexpr unsigned kWholeWarp = 0xffffffffu;

// Calls f with a null pointer of the element type that dtype names, for f to take the type from.
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

#ifdef __CUDACC__
// Without being asked a device gives 48 KiB of shared memory, static and dynamic together.
constexpr size_t kGivenBytes = 32 * 1024, kAskedBytes = 96 * 1024;

// Launches and checks the launch. More dynamic shared memory than is given is asked for here; a device without it
// answers with an error, never with a wrong result. Never for less than others may want: what is asked for is the
// kernel's, for all threads of the host.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   Arguments... arguments) {
  if (shared_bytes > kGivenBytes) {
    const size_t asked = shared_bytes > kAskedBytes ? shared_bytes : kAskedBytes;
    const cudaError_t error =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(asked));
    if (error != cudaSuccess) return error;
  }
  kernel<<<grid, block, shared_bytes, stream>>>(arguments...);
  return cudaGetLastError();
}

// The block's dynamic shared memory, aligned to 16 bytes.
template <typename T>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char yoso_dynamic_shared[];
  return reinterpret_cast<T*>(yoso_dynamic_shared);
}
#endif  // else tests/cuda_shim/cuda_runtime.h has declared both, in this namespace

}  // namespace yoso::cuda
