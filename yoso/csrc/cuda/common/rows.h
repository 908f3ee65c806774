// A tensor [B, H, N, D] as kernels see it.
#pragma once

#include <cstdint>

namespace yoso::cuda {

// D stands side by side. Strides are in elements.
struct Rows {
  const void* data;
  int64_t stride_batch, stride_head, stride_row;
};

// Whether every row begins at a multiple of `bytes`, so that rows of whole vectors can be read vector by vector.
inline bool rows_are_aligned(const Rows& rows, int64_t bytes_per_element, int64_t bytes) {
  const int64_t strides = rows.stride_batch | rows.stride_head | rows.stride_row;
  return reinterpret_cast<uintptr_t>(rows.data) % bytes == 0 && strides * bytes_per_element % bytes == 0;
}

}  // namespace yoso::cuda
