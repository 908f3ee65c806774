// The operators on the CPU; yoso/ops/operators.py documents them.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>
#include <tuple>

namespace yoso {

using Mask = std::optional<at::Tensor>;

at::Tensor fast_hash(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
                     const std::string& hash_family);

at::Tensor lsh_cumulation(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value,
                          const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, bool unrounded);

std::tuple<at::Tensor, at::Tensor, at::Tensor> lsh_attention_backward(const at::Tensor& grad, const at::Tensor& query,
                                                                      const at::Tensor& key, const at::Tensor& value,
                                                                      const at::Tensor& query_codes,
                                                                      const at::Tensor& key_codes,
                                                                      const Mask& query_mask, const Mask& key_mask,
                                                                      int64_t hash_code_len);

// lsh_attention_backward for codes of hash_code_len bits that stand for hashes of `exponent` bits.
std::tuple<at::Tensor, at::Tensor, at::Tensor> collision_gradients(const at::Tensor& grad, const at::Tensor& query,
                                                                   const at::Tensor& key, const at::Tensor& value,
                                                                   const at::Tensor& query_codes,
                                                                   const at::Tensor& key_codes, const Mask& query_mask,
                                                                   const Mask& key_mask, int64_t hash_code_len,
                                                                   int64_t exponent);

at::Tensor rescored_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                              const at::Tensor& query_codes, const at::Tensor& key_codes,
                              const at::Tensor& shared_key_ids, const Mask& query_mask, const Mask& key_mask,
                              int64_t hash_code_len, int64_t keys_per_query, double floor, bool rest, bool lsh_backward,
                              bool unrounded);

std::tuple<at::Tensor, at::Tensor, at::Tensor> rescored_attention_backward(
    const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& shared_key_ids,
    const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, int64_t keys_per_query, double floor,
    bool rest);

at::Tensor expectation(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Mask& query_mask,
                       const Mask& key_mask, int64_t hash_code_len, bool exact_gradient, bool unrounded);

std::tuple<at::Tensor, at::Tensor, at::Tensor> expectation_backward(const at::Tensor& grad, const at::Tensor& query,
                                                                    const at::Tensor& key, const at::Tensor& value,
                                                                    const Mask& query_mask, const Mask& key_mask,
                                                                    int64_t hash_code_len, bool exact_gradient);

at::Tensor unit_rows(const at::Tensor& x, std::optional<at::ScalarType> dtype);

void unit_rows_(at::Tensor& x);

at::Tensor unit_rows_backward(const at::Tensor& grad, const at::Tensor& x);

at::Tensor floored_unit_rows(const at::Tensor& x, const at::Tensor& floor, std::optional<at::ScalarType> dtype);

std::tuple<at::Tensor, at::Tensor> floored_unit_rows_backward(const at::Tensor& grad, const at::Tensor& x,
                                                              const at::Tensor& floor);

}  // namespace yoso
