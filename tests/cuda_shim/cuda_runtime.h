// Stands before CUDA's header of this name: the .cu files of yoso/csrc/cuda, compiled by g++, run on the CPU.
//
// A thread is a fiber with a stack of its own; the blocks of a grid run one after the other, and within a block a
// thread runs until it waits: for its block (__syncthreads) or for its warp (a shuffle, a vote).
//
// What a run here proves:
// - the values: index arithmetic, masks, ragged ends, dispatch, launch shapes, the host's launch functions and, with
//   the stand-ins under c10/, the torch side of an operator as well;
// - with the address and undefined-behaviour sanitizers: no access beyond a tensor, beyond dynamic shared memory of
//   just the size asked for or beyond a static array, no misaligned vector access, no overflow;
// - every thread meets the same barriers: a thread that misses one is an error, not a hang, and so is a collective of
//   less than a whole warp;
// - no read of shared memory that nobody has written: it is filled with NaN, -1 as an integer, before every block;
// - no dependence on the order of threads between barriers or of blocks, as far as the orders that were run show it
//   (set_order): what a missing barrier would do. In some of them the warps of a block take turns where they meet. It
//   is a sample, not a race detector.
// - asynchronous copies are waited for: in half of the orders they arrive as late as they may, in the others at once.
// What it does not prove: what ptxas makes of the code; registers, speed, launches under __launch_bounds__; anything
// behind #ifdef __CUDACC__ (inline PTX, tensor cores, which truncate their sums); how much shared memory a launch may
// have in all; the memory model between blocks that run at once; streams and graphs. Products and sums are rounded one
// by one here, where nvcc contracts them to fused ones.
//
// What would make the host wait (cudaDeviceSynchronize, cudaMemcpy) is not declared.
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

// Everything is done when the call returns; there is one stream.
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

// What launch.h declares for nvcc. Each thread gets the arguments by value, as on a device.
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
