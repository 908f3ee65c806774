// CUDA's vector types with CUDA's alignment, so that the sanitizers report misaligned vector loads.
#pragma once

#include <cstddef>
#include <cstdint>

#define CUDA_SHIM_VECTORS(name, type)                                                    \
  struct name##1 { type x; };                                                            \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                               \
  struct name##3 { type x, y, z; };                                                      \
  struct alignas(sizeof(type) < 4 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; }; \
  inline name##2 make_##name##2(type x, type y) { return {x, y}; }                       \
  inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }            \
  inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }

CUDA_SHIM_VECTORS(char, signed char)
CUDA_SHIM_VECTORS(uchar, unsigned char)
CUDA_SHIM_VECTORS(short, short)
CUDA_SHIM_VECTORS(ushort, unsigned short)
CUDA_SHIM_VECTORS(int, int)
CUDA_SHIM_VECTORS(uint, unsigned int)
CUDA_SHIM_VECTORS(longlong, long long)
CUDA_SHIM_VECTORS(ulonglong, unsigned long long)
CUDA_SHIM_VECTORS(float, float)
CUDA_SHIM_VECTORS(double, double)
#undef CUDA_SHIM_VECTORS

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1) : x(x_), y(y_), z(z_) {}
};

// Of the running thread; set by the scheduler.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
constexpr int warpSize = 32;
