// The codes of one side's tokens, read four neighbours at a time.
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

constexpr uint32_t kNoCode = 0xffffffffu;  // more than any code

struct Tokens {
  const uint16_t* codes;
  const bool* mask;  // or null
  uint32_t count;
  bool in_fours;  // count is a multiple of four, and codes and mask are aligned to four of theirs

  __device__ uint32_t code(uint32_t token) const { return !mask || mask[token] ? codes[token] : kNoCode; }

  // Of tokens first ... first + 3; kNoCode of masked ones and beyond the last.
  __device__ void read(uint32_t first, uint32_t (&code)[4]) const {
    if (in_fours) {
      const uint2 words = *reinterpret_cast<const uint2*>(codes + first);
      const uint32_t real = mask ? *reinterpret_cast<const uint32_t*>(mask + first) : kNoCode;
#pragma unroll
      for (int u = 0; u < 4; ++u) {
        code[u] = (u < 2 ? words.x : words.y) >> u % 2 * 16 & 0xffffu;
        if ((real >> u * 8 & 0xffu) == 0) code[u] = kNoCode;
      }
    } else {
#pragma unroll
      for (uint32_t u = 0; u < 4; ++u) {
        code[u] = first + u < count ? this->code(first + u) : kNoCode;
      }
    }
  }

  // Calls f(token, code) for every token; a thread has four neighbours at a time.
  template <typename F>
  __device__ void for_each(F f) const {
#pragma unroll 2
    for (uint32_t first = 4 * threadIdx.x; first < count; first += 4 * blockDim.x) {
      uint32_t code[4];
      read(first, code);
#pragma unroll
      for (uint32_t u = 0; u < 4; ++u) f(first + u, code[u]);
    }
  }
};

}  // namespace yoso::cuda
