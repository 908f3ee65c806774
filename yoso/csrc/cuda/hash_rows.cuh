// Vectors from memory into registers, for every hash family.
#pragma once

#include "hash.h"

namespace yoso::cuda {

// Columns first .. first + kCount of a row of `dim` columns, zero beyond it; first and kCount are multiples of 16
// bytes. aligned: see HashParams.
template <int kCount, typename T>
__device__ inline void load_columns(const T* row, int first, int dim, bool aligned, float (&v)[kCount]) {
  constexpr int kPart = 16 / sizeof(T);
  if (aligned) {
#pragma unroll
    for (int c = 0; c < kCount; c += kPart) {
      alignas(16) T part[kPart];
      *reinterpret_cast<uint4*>(part) =
          first + c < dim ? *reinterpret_cast<const uint4*>(row + first + c) : uint4{0, 0, 0, 0};
#pragma unroll
      for (int i = 0; i < kPart; ++i) v[c + i] = static_cast<float>(part[i]);
    }
  } else {
#pragma unroll
    for (int c = 0; c < kCount; ++c) v[c] = first + c < dim ? static_cast<float>(row[first + c]) : 0.0f;
  }
}

}  // namespace yoso::cuda
