// Where the kernels run: the tensors' device and its current stream, so that they take their place among torch's own.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

namespace yoso::cuda {

class Device {
 public:
  explicit Device(const at::Tensor& tensor) : guard_(tensor.device()), index_(tensor.device().index()) {}
  cudaStream_t stream() const { return c10::cuda::getCurrentCUDAStream(index_); }

 private:
  c10::cuda::CUDAGuard guard_;
  c10::DeviceIndex index_;
};

}  // namespace yoso::cuda
