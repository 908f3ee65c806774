// The rows of one head as tensors: in the dtype of the sums, with masked rows zero, and scaled to length 1.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>

#include "ops.h"
#include "rows.h"

namespace yoso {

// Rows [begin, end) of head `index` of x [B, H, N, D], contiguous and in the accumulation dtype, with masked rows zero;
// a copy only where that is necessary.
inline at::Tensor head_rows(const at::Tensor& x, const Mask& mask, int64_t index, int64_t begin, int64_t end) {
  const int64_t batch = index / x.size(1), count = end - begin;
  at::Tensor rows = x.select(0, batch).select(0, index % x.size(1)).narrow(0, begin, count).to(accumulate_type(x));
  if (mask) rows = rows.masked_fill(mask->select(0, batch).narrow(0, begin, count).logical_not().unsqueeze(-1), 0);
  return rows.contiguous();
}

template <typename T>
void scale_head(const at::Tensor& x, const at::Tensor* grad, const at::Tensor& out) {
  const int64_t dim = x.size(1);
  scale_rows(RowBlock<T>{x.const_data_ptr<T>(), grad ? grad->const_data_ptr<T>() : nullptr, out.mutable_data_ptr<T>(),
                         dim, dim, dim, x.size(0), dim});
}

// Scales contiguous rows [N, D] to length 1 or, if grad is not null, computes the gradient of that; out may be *grad.
inline void scale_head(const at::Tensor& x, const at::Tensor* grad, const at::Tensor& out) {
  x.scalar_type() == at::kDouble ? scale_head<double>(x, grad, out) : scale_head<float>(x, grad, out);
}

// A copy of head_rows with rows scaled to length 1.
inline at::Tensor unit_head(const at::Tensor& x, const Mask& mask, int64_t index, int64_t begin, int64_t end) {
  const at::Tensor rows = head_rows(x, mask, index, begin, end);
  at::Tensor unit = at::empty(rows.sizes(), rows.options());
  scale_head(rows, nullptr, unit);
  return unit;
}

// Converts gradients [B * H, N, D] with respect to unit rows to gradients with respect to the rows of x, in place. The
// gradient of a masked row becomes zero.
inline void backward_through_scaling(const at::Tensor& x, const Mask& mask, const at::Tensor& grads) {
  at::parallel_for(0, grads.size(0), 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView below;
    for (int64_t head = begin; head < end; ++head) {
      const at::Tensor grad = grads.select(0, head);
      scale_head(head_rows(x, mask, head, 0, x.size(2)), &grad, grad);
    }
  });
}

}  // namespace yoso
