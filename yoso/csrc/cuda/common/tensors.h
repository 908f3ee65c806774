// From torch's tensors to what the kernels take.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "launch.h"
#include "rows.h"

namespace yoso::cuda {

constexpr int64_t kMaxHeadDim = 256;

inline Dtype dtype_of(const at::Tensor& x, const char* name) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return Dtype::kFloat32;
    case at::kBFloat16:
      return Dtype::kBFloat16;
    case at::kHalf:
      return Dtype::kFloat16;
    case at::kDouble:
      TORCH_CHECK_VALUE(false, name, ": float64 runs on the CPU; on CUDA use float32, bfloat16 or float16");
    default:
      TORCH_CHECK_VALUE(false, name, " must be float32, bfloat16 or float16, got ", x.scalar_type());
  }
}

inline void check_head_dim(const at::Tensor& x, const char* name) {
  TORCH_CHECK_VALUE(1 <= x.size(3) && x.size(3) <= kMaxHeadDim, name, "'s head_dim must be 1 to ", kMaxHeadDim,
                    " on CUDA, got ", x.size(3));
}

// The dispatcher sends a call here where one tensor is on the device; the kernels would read the others' pointers too.
template <typename... Others>
void check_one_device(const char* name, const at::Tensor& first, const Others&... others) {
  const auto check = [&](const std::optional<at::Tensor>& x) {
    TORCH_CHECK_VALUE(!x || x->device() == first.device(), name, ": all tensors must be on one device, got ",
                      first.device(), " and ", x->device());
  };
  (check(others), ...);
}

// x itself where its rows are dense, whatever the order of its other dimensions; else a copy. From row to row it is
// fewer than 2^30 elements. Keep it as long as the kernels use rows_of() it.
inline at::Tensor with_dense_rows(const at::Tensor& x) {
  const bool dense = x.stride(-1) == 1 || x.size(-1) == 1;
  return dense && x.stride(-2) >> 30 == 0 ? x : x.contiguous();
}

inline Rows rows_of(const at::Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1), x.stride(2)}; }

inline void check_launch(cudaError_t error, const char* name) {
  TORCH_CHECK(error == cudaSuccess, name, ": the launch failed on this device: ", cudaGetErrorString(error));
}

}  // namespace yoso::cuda
