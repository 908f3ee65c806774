// The torch side of every operator: argument checks, tensors as kernel parameters, and the device and stream to run on.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>

#include "launch.h"

namespace yoso::cuda {

constexpr int64_t kMaxHeadDim = 256;

// Makes the tensor's device current for this object's lifetime; kernels run on that device's current stream, in order
// with torch's own.
class Device {
 public:
  explicit Device(const at::Tensor& tensor) : guard_(tensor.device()), index_(tensor.device().index()) {}
  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream(index_); }

 private:
  c10::cuda::CUDAGuard guard_;
  c10::DeviceIndex index_;
};

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

// The dispatcher calls the CUDA kernel if any one tensor is on the device, but the kernel reads all of their pointers.
template <typename... Others>
void check_one_device(const char* name, const at::Tensor& first, const Others&... others) {
  const auto check = [&](const std::optional<at::Tensor>& x) {
    TORCH_CHECK_VALUE(!x || x->device() == first.device(), name, ": all tensors must be on one device, got ",
                      first.device(), " and ", x->device());
  };
  (check(others), ...);
}

// x itself if the elements of each row are contiguous and the row stride is below 2^30 elements, whatever the order of
// the other dimensions; else a contiguous copy. The result must outlive every kernel that uses rows_of() it.
inline at::Tensor with_dense_rows(const at::Tensor& x) {
  const bool dense = x.stride(-1) == 1 || x.size(-1) == 1;
  return dense && x.stride(-2) >> 30 == 0 ? x : x.contiguous();
}

inline Rows rows_of(const at::Tensor& x) { return {x.const_data_ptr(), x.stride(0), x.stride(1), x.stride(2)}; }

inline void check_launch(cudaError_t error, const char* name) {
  TORCH_CHECK(error == cudaSuccess, name, ": the launch failed on this device: ", cudaGetErrorString(error));
}

}  // namespace yoso::cuda
