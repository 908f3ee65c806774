// unit_rows and floored_unit_rows: divide every row by its length, or by its length and a floor, and the gradients of
// that, in one pass over the rows.
#include <ATen/Parallel.h>
#include <ATen/ops/sum.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

constexpr int64_t kRowsPerTask = 512;

// floors [B, H] is undefined where every floor is 0. grad_floor [B, H, N] receives each row's share of the gradient of
// its floor, unless it is undefined. All tensors but x and grad are contiguous.
template <typename T>
void scale_heads(const at::Tensor& x, const at::Tensor* grad, const at::Tensor& floors, at::Tensor& out,
                 at::Tensor& grad_floor) {
  const Rows<T> rows(x), grads(grad ? *grad : x);
  const int64_t heads = x.size(0) * x.size(1), chunks = (rows.length + kRowsPerTask - 1) / kRowsPerTask;
  const T* floor = floors.defined() ? floors.const_data_ptr<T>() : nullptr;
  T *to = out.mutable_data_ptr<T>(), *shares = grad_floor.defined() ? grad_floor.mutable_data_ptr<T>() : nullptr;
  at::parallel_for(0, heads * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / chunks, first = task % chunks * kRowsPerTask;
      scale_rows(RowBlock<T>{rows.head(head) + first * rows.stride_row,
                             grad ? grads.head(head) + first * grads.stride_row : nullptr,
                             to + (head * rows.length + first) * rows.dim, rows.stride_row, grads.stride_row, rows.dim,
                             std::min(kRowsPerTask, rows.length - first), rows.dim, floor ? floor[head] : T{0},
                             shares ? shares + head * rows.length + first : nullptr});
    }
  });
}

at::Tensor scale(const at::Tensor& x, const at::Tensor* grad, at::ScalarType out_type, const at::Tensor& floors = {},
                 at::Tensor grad_floor = {}) {
  const at::ScalarType type = accumulate_type(x);
  const at::Tensor rows = as_rows(x, type), grads = grad ? as_rows(*grad, type) : rows;
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(type));
  if (type == at::kDouble) {
    scale_heads<double>(rows, grad ? &grads : nullptr, floors, out, grad_floor);
  } else {
    scale_heads<float>(rows, grad ? &grads : nullptr, floors, out, grad_floor);
  }
  return out.to(out_type);
}

void check_grad_of_rows(const at::Tensor& grad, const at::Tensor& x) {
  TORCH_CHECK_VALUE(grad.sizes() == x.sizes(), "grad must have x's shape ", x.sizes(), ", got ", grad.sizes());
}

}  // namespace

at::Tensor unit_rows(const at::Tensor& x, std::optional<at::ScalarType> dtype) {
  check_floating(x, "x");
  return scale(x, nullptr, dtype.value_or(x.scalar_type()));
}

void unit_rows_(at::Tensor& x) {
  check_floating(x, "x");
  at::Tensor none;
  if (!x.is_contiguous() || x.scalar_type() != accumulate_type(x)) {
    x.copy_(scale(x, nullptr, x.scalar_type()));
  } else if (x.scalar_type() == at::kDouble) {
    scale_heads<double>(x, nullptr, none, x, none);
  } else {
    scale_heads<float>(x, nullptr, none, x, none);
  }
}

at::Tensor unit_rows_backward(const at::Tensor& grad, const at::Tensor& x) {
  check_floating(x, "x");
  check_grad_of_rows(grad, x);
  return scale(x, &grad, x.scalar_type());
}

at::Tensor floored_unit_rows(const at::Tensor& x, const at::Tensor& floor, std::optional<at::ScalarType> dtype) {
  check_floating(x, "x");
  check_floor(floor, x);
  return scale(x, nullptr, dtype.value_or(x.scalar_type()), floor.contiguous());
}

std::tuple<at::Tensor, at::Tensor> floored_unit_rows_backward(const at::Tensor& grad, const at::Tensor& x,
                                                              const at::Tensor& floor) {
  check_floating(x, "x");
  check_grad_of_rows(grad, x);
  check_floor(floor, x);
  const at::Tensor shares = at::empty(x.sizes().slice(0, 3), floor.options());
  const at::Tensor grad_x = scale(x, &grad, x.scalar_type(), floor.contiguous(), shares);
  return {grad_x, shares.sum(-1)};
}

}  // namespace yoso
