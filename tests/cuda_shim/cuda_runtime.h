// Replaces CUDA's header of this name: g++ compiles the .cu files of yoso/csrc/cuda, and they run on the CPU.
//
// A thread is a fiber with its own stack. The blocks of a grid run one after the other. Within a block, a thread runs
// until it waits for its block (__syncthreads) or for its warp (a shuffle, a vote).
//
// A run on the shim proves:
// - values: index arithmetic, masks, partial tiles, dispatch, launch shapes, the host's launch functions and, with the
//   replacement headers under c10/, the torch side of an operator;
// - with the address and undefined-behaviour sanitizers: no access beyond a tensor, beyond dynamic shared memory of
//   exactly the requested size or beyond a static array, no misaligned vector access, no signed overflow;
// - that all threads reach the same barriers: a thread that misses one is an error, not a hang, and so is a warp-wide
//   operation by less than a whole warp;
// - that no shared memory is read before it is written: it is filled with all-ones bits, that is NaN, or -1 as an
//   integer, before every block;
// - that results do not depend on the order of blocks, or of threads between barriers, in the orders that were run
//   (set_order): a missing barrier would show. In some orders the warps of a block take turns. This samples schedules;
//   it is not a race detector;
// - that asynchronous copies are waited for: in odd orders they arrive as late as possible, in even orders at once.
// It does not prove: what ptxas generates; registers, speed, __launch_bounds__; anything behind #ifdef __CUDACC__
// (inline PTX, tensor cores, which truncate their sums); whether a device has the shared memory that is static and
// dynamic together; the memory model between blocks that run at the same time; streams and graphs. Products and sums
// are rounded one by one here, whereas nvcc contracts them to fused multiply-adds.
//
// Functions that make the host wait for the device (cudaDeviceSynchronize, cudaMemcpy) are not declared, so kernels
// that use them do not compile.
#pragma once

#include <algorithm>
#include <cstring>

#include "block.h"
#include "collectives.h"
#include "copies.h"
#include "intrinsics.h"
#include "shared_memory.h"
#include "types.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };

inline const char* cudaGetErrorString(cudaError_t error) {
  if (error == cudaSuccess) return "no error";
  return error == cudaErrorInvalidConfiguration ? "invalid configuration argument" : "invalid argument";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaPeekAtLastError() { return cudaSuccess; }

// Every call is complete when it returns; there is one stream.
using cudaStream_t = struct CudaShimStream*;

inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  if (bytes) memset(to, value, bytes);
  return cudaSuccess;
}

enum cudaMemcpyKind { cudaMemcpyDeviceToDevice = 3 };
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  if (bytes) memcpy(to, from, bytes);
  return cudaSuccess;
}

inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}

enum cudaDeviceAttr {
  cudaDevAttrMaxSharedMemoryPerBlock,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrL2CacheSize,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
};

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const cuda_shim::DeviceLimits& limits = cuda_shim::device_limits();
  switch (attribute) {
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = std::min(48 << 10, limits.shared_bytes);
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = limits.shared_bytes;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = limits.shared_bytes + 1024;
      break;
    case cudaDevAttrMultiProcessorCount:
      *value = limits.multiprocessors;
      break;
    case cudaDevAttrL2CacheSize:
      *value = 50 << 20;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = limits.major;
      break;
    case cudaDevAttrComputeCapabilityMinor:
      *value = limits.minor;
      break;
  }
  return cudaSuccess;
}

namespace yoso::cuda {

// The functions that launch.h defines for nvcc. Each thread gets the arguments by value, as on a device.
template <typename... Parameters, typename... Arguments>
cudaError_t launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
                   Arguments... arguments) {
  const cuda_shim::Launch end = cuda_shim::run(grid, block, shared_bytes, [&] { kernel(arguments...); });
  return end == cuda_shim::Launch::kDone ? cudaSuccess : cudaErrorInvalidConfiguration;
}

template <typename T>
T* dynamic_shared() {
  return static_cast<T*>(cuda_shim::dynamic_shared());
}

}  // namespace yoso::cuda
