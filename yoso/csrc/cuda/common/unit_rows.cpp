// The torch side of unit_rows and floored_unit_rows, and their gradients.
#include "unit_rows.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/sum.h>
#include <torch/library.h>

#include "../../checks.h"
#include "scale_rows.h"
#include "tensors.h"

namespace yoso::cuda {

void scale_rows(const at::Tensor& x, const at::Tensor* grad, at::Tensor& out, const char* name,
                const at::Tensor& floors, const at::Tensor& grad_floor) {
  const Dtype dtype = dtype_of(x, "x");
  if (out.numel() == 0) return;
  const Device device(x);
  const at::Tensor rows = with_dense_rows(x), grads = grad ? with_dense_rows(*grad) : at::Tensor();
  const UnitRowsParams params{rows_of(rows),
                              grad ? rows_of(grads) : Rows{},
                              floors.defined() ? floors.const_data_ptr<float>() : nullptr,
                              grad_floor.defined() ? grad_floor.mutable_data_ptr<float>() : nullptr,
                              out.mutable_data_ptr(),
                              x.size(0),
                              x.size(1),
                              x.size(2),
                              x.size(3),
                              dtype,
                              dtype_of(grad ? *grad : out, grad ? "grad" : "the unit rows")};
  check_launch(launch_unit_rows(params, device.stream()), name);
}

at::Tensor to_unit_rows(const at::Tensor& x, const char* name) {
  at::Tensor out = at::empty(x.sizes(), x.options());
  scale_rows(x, nullptr, out, name);
  return out;
}

void backward_through_unit_rows(const at::Tensor& x, const std::optional<at::Tensor>& mask, at::Tensor& grad,
                                const char* name) {
  scale_rows(x, &grad, grad, name);
  if (mask) grad.masked_fill_(mask->logical_not().unsqueeze(1).unsqueeze(-1), 0);
}

namespace {

void check_unit_dtype(const at::Tensor& x, at::ScalarType type, const char* name) {
  TORCH_CHECK_VALUE(type == x.scalar_type() || x.scalar_type() == at::kFloat, name, " must be ", x.scalar_type(),
                    " like x, got ", type, "; only float32 rows become unit rows of another dtype");
}

at::Tensor unit_rows(const at::Tensor& x, std::optional<at::ScalarType> dtype) {
  check_floating(x, "x");
  const at::ScalarType type = dtype.value_or(x.scalar_type());
  check_unit_dtype(x, type, "dtype");
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(type));
  scale_rows(x, nullptr, out, "unit_rows");
  return out;
}

void unit_rows_(at::Tensor& x) {
  check_floating(x, "x");
  if (x.is_contiguous()) return scale_rows(x, nullptr, x, "unit_rows_");
  x.copy_(to_unit_rows(x, "unit_rows_"));
}

void check_grad_of_rows(const at::Tensor& grad, const at::Tensor& x) {
  TORCH_CHECK_VALUE(grad.sizes() == x.sizes(), "grad must be ", x.sizes(), " like x, got ", grad.sizes());
  check_unit_dtype(x, grad.scalar_type(), "grad");
}

at::Tensor unit_rows_backward(const at::Tensor& grad, const at::Tensor& x) {
  check_floating(x, "x");
  check_grad_of_rows(grad, x);
  check_one_device("unit_rows_backward", x, grad);
  at::Tensor out = at::empty(x.sizes(), x.options());
  scale_rows(x, &grad, out, "unit_rows_backward");
  return out;
}

at::Tensor floored_unit_rows(const at::Tensor& x, const at::Tensor& floor, std::optional<at::ScalarType> dtype) {
  check_floating(x, "x");
  dtype_of(x, "x");  // before the floor's dtype, which depends on it
  check_floor(floor, x);
  const at::ScalarType type = dtype.value_or(x.scalar_type());
  check_unit_dtype(x, type, "dtype");
  check_one_device("floored_unit_rows", x, floor);
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(type));
  scale_rows(x, nullptr, out, "floored_unit_rows", floor.contiguous());
  return out;
}

std::tuple<at::Tensor, at::Tensor> floored_unit_rows_backward(const at::Tensor& grad, const at::Tensor& x,
                                                              const at::Tensor& floor) {
  check_floating(x, "x");
  dtype_of(x, "x");
  check_floor(floor, x);
  check_grad_of_rows(grad, x);
  check_one_device("floored_unit_rows_backward", x, grad, floor);
  at::Tensor out = at::empty(x.sizes(), x.options());
  const at::Tensor shares = at::empty(x.sizes().slice(0, 3), floor.options());
  if (x.numel() == 0) shares.zero_();  // no kernel runs
  scale_rows(x, &grad, out, "floored_unit_rows_backward", floor.contiguous(), shares);
  return {out, shares.sum(-1)};
}

}  // namespace
}  // namespace yoso::cuda

TORCH_LIBRARY_IMPL(yoso, CUDA, m) {
  m.impl("unit_rows", TORCH_FN(yoso::cuda::unit_rows));
  m.impl("unit_rows_", TORCH_FN(yoso::cuda::unit_rows_));
  m.impl("unit_rows_backward", TORCH_FN(yoso::cuda::unit_rows_backward));
  m.impl("floored_unit_rows", TORCH_FN(yoso::cuda::floored_unit_rows));
  m.impl("floored_unit_rows_backward", TORCH_FN(yoso::cuda::floored_unit_rows_backward));
}
