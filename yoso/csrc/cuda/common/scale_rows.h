// What unit_rows.cpp offers to operators that scale rows on their way.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace yoso::cuda {

// Rows of x scaled to length 1 or, with grad, the gradient through that. out is contiguous; it may be x, or *grad where
// that is contiguous: a row is read before it is written. `name` is the operator that an error names.
void scale_rows(const at::Tensor& x, const at::Tensor* grad, at::Tensor& out, const char* name);

at::Tensor unit(const at::Tensor& x, const char* name);

// The gradient of rows of length 1 becomes that of the rows x. What a masked row holds, NaN included, is nobody's.
void through_scaling(const at::Tensor& x, const std::optional<at::Tensor>& mask, at::Tensor& grad, const char* name);

}  // namespace yoso::cuda
