// The torch side of unit_rows.
#include "unit_rows.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include "../checks.h"
#include "stream.h"
#include "tensors.h"

namespace yoso::cuda {
namespace {

at::Tensor scale(const at::Tensor& x, const at::Tensor* grad, const char* name) {
  const Dtype dtype = dtype_of(x, "x");
  at::Tensor out = at::empty(x.sizes(), x.options());
  if (out.numel() == 0) return out;
  const Device device(x);
  const at::Tensor rows = with_dense_rows(x), grads = grad ? with_dense_rows(*grad) : at::Tensor();
  const UnitRowsParams params{
      rows_of(rows), grad ? rows_of(grads) : Rows{}, out.mutable_data_ptr(), x.size(0), x.size(1), x.size(2), x.size(3),
      dtype};
  check_launch(launch_unit_rows(params, device.stream()), name);
  return out;
}

at::Tensor unit_rows(const at::Tensor& x) {
  check_floating(x, "x");
  return scale(x, nullptr, "unit_rows");
}

at::Tensor unit_rows_backward(const at::Tensor& grad, const at::Tensor& x) {
  check_floating(x, "x");
  TORCH_CHECK_VALUE(grad.sizes() == x.sizes() && grad.scalar_type() == x.scalar_type(), "grad must be ",
                    x.scalar_type(), " ", x.sizes(), " like x, got ", grad.scalar_type(), " ", grad.sizes());
  check_one_device("unit_rows_backward", x, grad);
  return scale(x, &grad, "unit_rows_backward");
}

}  // namespace
}  // namespace yoso::cuda

TORCH_LIBRARY_IMPL(yoso, CUDA, m) {
  m.impl("unit_rows", TORCH_FN(yoso::cuda::unit_rows));
  m.impl("unit_rows_backward", TORCH_FN(yoso::cuda::unit_rows_backward));
}
