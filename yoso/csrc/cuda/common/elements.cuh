// Conversions between float32 and the elements of float32, bfloat16 and float16 rows.
#pragma once

#include <cstring>

#include "launch.h"

namespace yoso::cuda {

// Widens the elements of a 32-bit word: two of a 16-bit type, or one float32.
__device__ inline void to_floats(uint32_t word, float* x, const __nv_bfloat16*) {
  x[0] = __uint_as_float(word << 16);
  x[1] = __uint_as_float(word & 0xffff0000u);
}

__device__ inline void to_floats(uint32_t word, float* x, const __half*) {
  const uint16_t bits[2] = {static_cast<uint16_t>(word), static_cast<uint16_t>(word >> 16)};
  __half halves[2];
  memcpy(halves, bits, sizeof(bits));
  x[0] = __half2float(halves[0]);
  x[1] = __half2float(halves[1]);
}

__device__ inline void to_floats(uint32_t word, float* x, const float*) { x[0] = __uint_as_float(word); }

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float to_float(__half x) { return __half2float(x); }

// Rounds to the element type, to nearest even.
__device__ inline void round_to(float x, float& rounded) { rounded = x; }
__device__ inline void round_to(float x, __nv_bfloat16& rounded) { rounded = __float2bfloat16_rn(x); }
__device__ inline void round_to(float x, __half& rounded) { rounded = __float2half_rn(x); }

}  // namespace yoso::cuda
