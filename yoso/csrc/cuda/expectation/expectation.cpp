// The torch side of YOSO-E and its gradient.
#include "expectation.h"

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>
#include <tuple>

#include "../../checks.h"
#include "../common/scale_rows.h"
#include "../common/tensors.h"

namespace yoso::cuda {
namespace {

using Mask = std::optional<at::Tensor>;

void check(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Mask& query_mask,
           const Mask& key_mask, int64_t hash_code_len) {
  check_one_device("expectation", query, key, value, query_mask, key_mask);
  check_hash_code_len(hash_code_len);
  check_attention(query, key, value);
  check_head_dim(query, "query");
  check_head_dim(value, "value");
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
}

// Dense tensors of the rows, kept alive while the kernels are launched. value may be undefined.
struct RowTensors {
  at::Tensor x, value, mask;

  RowTensors(const at::Tensor& x_rows, const at::Tensor& value_rows, const Mask& row_mask)
      : x(with_dense_rows(x_rows)),
        value(value_rows.defined() ? with_dense_rows(value_rows) : value_rows),
        mask(row_mask ? row_mask->contiguous() : at::Tensor()) {}

  ExpectationRows params() const {
    return {rows_of(x), value.defined() ? rows_of(value) : Rows{},
            mask.defined() ? mask.const_data_ptr<bool>() : nullptr, x.size(2)};
  }
};

void run(const RowTensors& own, const RowTensors& other, at::Tensor* sum, at::Tensor* grad_x, int64_t hash_code_len,
         bool exact_gradient, const Device& device, const char* name) {
  ExpectationParams p{};
  p.own = own.params();
  p.other = other.params();
  p.sum = sum ? sum->mutable_data_ptr() : nullptr;
  p.float32_sum = sum && sum->scalar_type() == at::kFloat;
  p.grad_x = grad_x ? grad_x->mutable_data_ptr() : nullptr;
  p.batch = own.x.size(0);
  p.heads = own.x.size(1);
  p.x_dim = static_cast<int32_t>(own.x.size(3));
  p.value_dim = static_cast<int32_t>(other.value.size(3));
  p.hash_code_len = static_cast<int32_t>(hash_code_len);
  p.exact_gradient = exact_gradient;
  p.dtype = dtype_of(own.x, "query");
  check_launch(launch_expectation(p, device.stream()), name);
}

at::Tensor expectation(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Mask& query_mask,
                       const Mask& key_mask, int64_t hash_code_len,
                       bool /*exact_gradient: used only in the backward pass*/, bool unrounded) {
  check(query, key, value, query_mask, key_mask, hash_code_len);
  at::Tensor out = at::empty({query.size(0), query.size(1), query.size(2), value.size(3)},
                             value.options().dtype(unrounded ? at::kFloat : value.scalar_type()));
  const Device device(query);
  const RowTensors queries(to_unit_rows(query, "expectation"), at::Tensor(), query_mask);
  const RowTensors keys(to_unit_rows(key, "expectation"), value, key_mask);
  run(queries, keys, &out, nullptr, hash_code_len, false, device, "expectation");
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> expectation_backward(const at::Tensor& grad, const at::Tensor& query,
                                                                    const at::Tensor& key, const at::Tensor& value,
                                                                    const Mask& query_mask, const Mask& key_mask,
                                                                    int64_t hash_code_len, bool exact_gradient) {
  check(query, key, value, query_mask, key_mask, hash_code_len);
  check_one_device("expectation_backward", query, grad);
  check_grad(grad, query, value);
  TORCH_CHECK_VALUE(grad.scalar_type() == value.scalar_type() || grad.scalar_type() == at::kFloat, "grad must be ",
                    value.scalar_type(), " like value, or float32, got ", grad.scalar_type());
  at::Tensor grad_query = at::empty(query.sizes(), query.options()), grad_key = at::empty(key.sizes(), key.options());
  at::Tensor grad_value = at::empty(value.sizes(), value.options());
  const Device device(query);
  const RowTensors queries(to_unit_rows(query, "expectation_backward"), grad.to(value.scalar_type()), query_mask);
  const RowTensors keys(to_unit_rows(key, "expectation_backward"), value, key_mask);
  run(queries, keys, nullptr, &grad_query, hash_code_len, exact_gradient, device, "expectation_backward");
  run(keys, queries, &grad_value, &grad_key, hash_code_len, exact_gradient, device, "expectation_backward");
  backward_through_unit_rows(query, query_mask, grad_query, "expectation_backward");
  backward_through_unit_rows(key, key_mask, grad_key, "expectation_backward");
  return {grad_query, grad_key, grad_value};
}

}  // namespace
}  // namespace yoso::cuda

TORCH_LIBRARY_IMPL(yoso, CUDA, m) {
  m.impl("expectation", TORCH_FN(yoso::cuda::expectation));
  m.impl("expectation_backward", TORCH_FN(yoso::cuda::expectation_backward));
}
