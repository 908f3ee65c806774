// Scaling of rows to length 1, for operators whose kernels take unit rows. Implemented in unit_rows.cpp.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace yoso::cuda {

// Without grad: writes the rows of x, scaled to length 1, to out. With grad, the gradient of the scaled rows: writes
// the gradient of x to out, which has x's dtype. out is contiguous. It may be x, or *grad if that is contiguous and has
// its dtype, because a row is read before it is written. x may be float32 where the unit rows are of a 16-bit dtype.
// `name` is the operator that error messages name.
//
// With floors, contiguous float32 [B, H], rows are divided by sqrt(|x|^2 + floor^2) instead. grad_floor, contiguous
// float32 [B, H, N], then receives each row's share of the gradient of its floor.
void scale_rows(const at::Tensor& x, const at::Tensor* grad, at::Tensor& out, const char* name,
                const at::Tensor& floors = {}, const at::Tensor& grad_floor = {});

// The rows of x scaled to length 1, in a new contiguous tensor.
at::Tensor to_unit_rows(const at::Tensor& x, const char* name);

// Turns the gradient of the unit rows of x into the gradient of x, in place. Masked rows get the gradient 0, whatever
// they hold, NaN included.
void backward_through_unit_rows(const at::Tensor& x, const std::optional<at::Tensor>& mask, at::Tensor& grad,
                                const char* name);

}  // namespace yoso::cuda
