// unit_rows, unit_rows_ and unit_rows_backward: scale every row to length 1, and the gradient of that, in one pass over
// the rows.
#include <ATen/Parallel.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

constexpr int64_t kRowsPerTask = 512;

template <typename T>
void scale_heads(const at::Tensor& x, const at::Tensor* grad, at::Tensor& out) {
  const Rows<T> rows(x), grads(grad ? *grad : x);
  const int64_t heads = x.size(0) * x.size(1), chunks = (rows.length + kRowsPerTask - 1) / kRowsPerTask;
  T* to = out.mutable_data_ptr<T>();
  at::parallel_for(0, heads * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / chunks, first = task % chunks * kRowsPerTask;
      scale_rows(RowBlock<T>{rows.head(head) + first * rows.stride_row,
                             grad ? grads.head(head) + first * grads.stride_row : nullptr,
                             to + (head * rows.length + first) * rows.dim, rows.stride_row, grads.stride_row, rows.dim,
                             std::min(kRowsPerTask, rows.length - first), rows.dim});
    }
  });
}

at::Tensor scale(const at::Tensor& x, const at::Tensor* grad, at::ScalarType out_type) {
  const at::ScalarType type = accumulate_type(x);
  const at::Tensor rows = as_rows(x, type), grads = grad ? as_rows(*grad, type) : rows;
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(type));
  if (type == at::kDouble) {
    scale_heads<double>(rows, grad ? &grads : nullptr, out);
  } else {
    scale_heads<float>(rows, grad ? &grads : nullptr, out);
  }
  return out.to(out_type);
}

}  // namespace

at::Tensor unit_rows(const at::Tensor& x, std::optional<at::ScalarType> dtype) {
  check_floating(x, "x");
  return scale(x, nullptr, dtype.value_or(x.scalar_type()));
}

void unit_rows_(at::Tensor& x) {
  check_floating(x, "x");
  if (!x.is_contiguous() || x.scalar_type() != accumulate_type(x)) {
    x.copy_(scale(x, nullptr, x.scalar_type()));
  } else if (x.scalar_type() == at::kDouble) {
    scale_heads<double>(x, nullptr, x);
  } else {
    scale_heads<float>(x, nullptr, x);
  }
}

at::Tensor unit_rows_backward(const at::Tensor& grad, const at::Tensor& x) {
  check_floating(x, "x");
  TORCH_CHECK_VALUE(grad.sizes() == x.sizes(), "grad must have x's shape ", x.sizes(), ", got ", grad.sizes());
  return scale(x, &grad, x.scalar_type());
}

}  // namespace yoso
