// Checks of the arguments that all native kernels rely on, so that a direct call of an operator cannot read out of
// bounds. The Python functions check first and give more detailed messages (yoso/ops/arguments.py).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace yoso {

inline void check_mask(const std::optional<at::Tensor>& mask, int64_t batch, int64_t length, const char* name) {
  if (!mask) return;
  TORCH_CHECK_VALUE(
      mask->scalar_type() == at::kBool && mask->dim() == 2 && mask->size(0) == batch && mask->size(1) == length, name,
      " must be bool [", batch, ", ", length, "], got ", mask->scalar_type(), " ", mask->sizes());
}

inline void check_hash_code_len(int64_t hash_code_len) {
  TORCH_CHECK_VALUE(1 <= hash_code_len && hash_code_len <= 16, "hash_code_len must be 1 to 16, got ", hash_code_len);
}

inline void check_floating(const at::Tensor& x, const char* name) {
  TORCH_CHECK_VALUE(x.dim() == 4 && at::isFloatingType(x.scalar_type()), name, " must be floating [B, H, N, D], got ",
                    x.scalar_type(), " ", x.sizes());
}

// The floors of floored_unit_rows, one for each head of x, in the dtype of its norms.
inline void check_floor(const at::Tensor& floor, const at::Tensor& x) {
  const at::ScalarType type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  TORCH_CHECK_VALUE(
      floor.scalar_type() == type && floor.dim() == 2 && floor.size(0) == x.size(0) && floor.size(1) == x.size(1),
      "floor must be ", type, " [", x.size(0), ", ", x.size(1), "], one for each head of x, got ", floor.scalar_type(),
      " ", floor.sizes());
}

// For kernels that use a code as an index into a table of 2^hash_code_len rows. For codes on the CPU only: reading
// codes on another device would make the host wait for it, so the kernels there treat a code that is too large as one
// that collides with nothing.
inline void check_code_range(const at::Tensor& codes, int64_t hash_code_len) {
  const at::Tensor dense = codes.contiguous();
  const uint16_t* code = dense.const_data_ptr<uint16_t>();
  uint16_t bits = 0;
  for (int64_t i = 0; i < dense.numel(); ++i) bits |= code[i];
  TORCH_CHECK_VALUE(bits >> hash_code_len == 0, "codes must be below 2^hash_code_len = ", int64_t{1} << hash_code_len,
                    ", but some are not. Pass the hash_code_len that the codes were computed with");
}

inline void check_codes(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value) {
  check_floating(value, "value");
  for (const at::Tensor& codes : {query_codes, key_codes}) {
    TORCH_CHECK_VALUE(codes.scalar_type() == at::kUInt16 && codes.dim() == 4 && codes.size(0) == value.size(0) &&
                          codes.size(1) == value.size(1) && codes.size(2) == query_codes.size(2) && codes.size(2) > 0,
                      "codes must be uint16 [B, H, num_hash, N] with value's B and H and num_hash at least 1, got ",
                      codes.scalar_type(), " ", codes.sizes(), " for value ", value.sizes());
  }
  TORCH_CHECK_VALUE(key_codes.size(3) == value.size(2), "key_codes must have value's length ", value.size(2), ", got ",
                    key_codes.size(3));
}

inline void check_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value) {
  check_floating(query, "query");
  check_floating(key, "key");
  check_floating(value, "value");
  TORCH_CHECK_VALUE(query.size(0) == key.size(0) && query.size(1) == key.size(1) && query.size(3) == key.size(3),
                    "query and key must have the same B, H and D, got ", query.sizes(), " and ", key.sizes());
  TORCH_CHECK_VALUE(value.size(0) == key.size(0) && value.size(1) == key.size(1) && value.size(2) == key.size(2),
                    "value and key must have the same B, H and N, got ", value.sizes(), " and ", key.sizes());
  TORCH_CHECK_VALUE(query.scalar_type() == key.scalar_type() && query.scalar_type() == value.scalar_type(),
                    "query, key and value must have one dtype, got ", query.scalar_type(), ", ", key.scalar_type(),
                    " and ", value.scalar_type());
}

inline void check_grad(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& value) {
  check_floating(grad, "grad");
  TORCH_CHECK_VALUE(grad.size(0) == query.size(0) && grad.size(1) == query.size(1) && grad.size(2) == query.size(2) &&
                        grad.size(3) == value.size(3),
                    "grad must be [", query.size(0), ", ", query.size(1), ", ", query.size(2), ", ", value.size(3),
                    "], the shape of the output, got ", grad.sizes());
}

}  // namespace yoso
