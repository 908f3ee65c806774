// The torch side of lsh_cumulation and lsh_attention_backward.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <tuple>

#include "../checks.h"
#include "cumulation.h"
#include "pairs.h"
#include "scale_rows.h"
#include "stream.h"
#include "tensors.h"

namespace yoso::cuda {
namespace {

using Mask = std::optional<at::Tensor>;

// Heads are taken some at a time, so that what lies between the sort and the sums stays near the second-level cache's
// size; one head may take more.
constexpr int64_t kWorkspaceBytes = int64_t{256} << 20;

// The tokens of one side: their codes and which of them are real.
struct Side {
  at::Tensor codes;
  Mask mask;

  Side(const at::Tensor& given_codes, const Mask& given_mask) : codes(given_codes.contiguous()) {
    if (given_mask) mask = given_mask->contiguous();
    TORCH_CHECK_VALUE(codes.size(3) < kMostTokens, "sequences on CUDA must be shorter than ", kMostTokens, ", got ",
                      codes.size(3));
  }
  int64_t length() const { return codes.size(3); }
};

const bool* data(const Mask& mask) { return mask ? mask->const_data_ptr<bool>() : nullptr; }

// Sorts the keys of all heads, some heads at a time, and calls visit(sorted, more) for each such group, where `more`
// are the bytes_more that visit asked for a head.
void for_each_group(const Side& queries, const Side& keys, int64_t hash_code_len, int64_t bytes_more,
                    cudaStream_t stream, const char* name,
                    const std::function<cudaError_t(const CodeSortParams& sorted, void* more)>& visit) {
  const int64_t heads = keys.codes.size(0) * keys.codes.size(1), num_hash = keys.codes.size(2);
  const int32_t hashes = static_cast<int32_t>(num_hash), bits = static_cast<int32_t>(hash_code_len);
  const int64_t bytes = bucket_bytes(keys.length(), queries.length(), hashes, bits), bytes_a_head = bytes + bytes_more;
  const int64_t groups = std::clamp<int64_t>((heads * bytes_a_head + kWorkspaceBytes - 1) / kWorkspaceBytes, 1, heads);
  const int64_t heads_a_group = (heads + groups - 1) / groups;
  at::Tensor space = at::empty({heads_a_group * bytes_a_head}, keys.codes.options().dtype(at::kByte));
  auto* workspace = static_cast<unsigned char*>(space.mutable_data_ptr());
  CodeSortParams sorted{};
  sorted.key_codes = keys.codes.const_data_ptr<uint16_t>();
  sorted.query_codes = queries.codes.const_data_ptr<uint16_t>();
  sorted.key_mask = data(keys.mask);
  sorted.query_mask = data(queries.mask);
  sorted.heads_per_batch = keys.codes.size(1);
  sorted.hash_code_len = bits;
  for (int64_t first = 0; first < heads; first += heads_a_group) {
    sorted.first_head = first;
    sorted.heads = std::min(heads_a_group, heads - first);
    place_buckets(sorted, keys.length(), queries.length(), hashes, workspace);
    check_launch(launch_code_sort(sorted, stream), name);
    check_launch(visit(sorted, workspace + sorted.heads * bytes), name);
  }
}

at::Tensor lsh_cumulation(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value,
                          const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len) {
  check_hash_code_len(hash_code_len);
  check_codes(query_codes, key_codes, value);
  check_one_device("lsh_cumulation", value, query_codes, key_codes, query_mask, key_mask);
  check_mask(query_mask, value.size(0), query_codes.size(3), "query_mask");
  check_mask(key_mask, value.size(0), value.size(2), "key_mask");
  const Dtype dtype = dtype_of(value, "value");
  check_head_dim(value, "value");
  const int64_t dim = value.size(3);
  at::Tensor out = at::empty({value.size(0), value.size(1), query_codes.size(3), dim}, value.options());
  if (out.numel() == 0) return out;
  const Device device(value);
  const Side queries(query_codes, query_mask), keys(key_codes, key_mask);
  const at::Tensor rows = with_dense_rows(value);
  const int64_t sums = query_codes.size(2) * crowded_capacity(keys.length(), static_cast<int32_t>(hash_code_len)) *
                       crowded_row_floats(dim) * static_cast<int64_t>(sizeof(float));
  for_each_group(queries, keys, hash_code_len, sums, device.stream(), "lsh_cumulation",
                 [&](const CodeSortParams& sorted, void* more) {
                   CumulationParams params{};
                   params.buckets = sorted.buckets;
                   params.first_head = sorted.first_head;
                   params.heads = sorted.heads;
                   params.heads_per_batch = sorted.heads_per_batch;
                   params.dtype = dtype;
                   params.value = rows_of(rows);
                   params.out = out.mutable_data_ptr();
                   params.columns = dim;
                   params.scale = 1.0f / static_cast<float>(query_codes.size(2));
                   params.crowded_sums = static_cast<float*>(more);
                   return launch_cumulation(params, device.stream());
                 });
  return out;
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> lsh_attention_backward(const at::Tensor& grad, const at::Tensor& query,
                                                                      const at::Tensor& key, const at::Tensor& value,
                                                                      const at::Tensor& query_codes,
                                                                      const at::Tensor& key_codes,
                                                                      const Mask& query_mask, const Mask& key_mask,
                                                                      int64_t hash_code_len) {
  check_hash_code_len(hash_code_len);
  check_attention(query, key, value);
  check_codes(query_codes, key_codes, value);
  check_grad(grad, query, value);
  check_one_device("lsh_attention_backward", value, grad, query, key, query_codes, key_codes, query_mask, key_mask);
  TORCH_CHECK_VALUE(query_codes.size(3) == query.size(2), "query_codes must have query's length ", query.size(2),
                    ", got ", query_codes.size(3));
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
  const Dtype dtype = dtype_of(value, "value");
  check_head_dim(query, "query");
  check_head_dim(value, "value");
  at::Tensor grad_query = at::empty(query.sizes(), query.options()), grad_key = at::empty(key.sizes(), key.options());
  at::Tensor grad_value = at::empty(value.sizes(), value.options());
  if (grad_query.numel() == 0 || grad_key.numel() == 0)
    return {grad_query.zero_(), grad_key.zero_(), grad_value.zero_()};
  const Device device(value);
  const Side queries(query_codes, query_mask), keys(key_codes, key_mask);
  const at::Tensor g = with_dense_rows(grad.to(value.scalar_type())), v = with_dense_rows(value);
  const at::Tensor q = unit(query, "lsh_attention_backward"), k = unit(key, "lsh_attention_backward");
  const auto visit = [&](const Side& own_side, const Side& other_side, const at::Tensor& own, const at::Tensor& partner,
                         const at::Tensor& direction, at::Tensor& out, at::Tensor* out_sum) {
    for_each_group(own_side, other_side, hash_code_len, 0, device.stream(), "lsh_attention_backward",
                   [&](const CodeSortParams& sorted, void*) {
                     PairsParams params{};
                     params.buckets = sorted.buckets;
                     params.first_head = sorted.first_head;
                     params.heads = sorted.heads;
                     params.heads_per_batch = sorted.heads_per_batch;
                     params.dtype = dtype;
                     params.own = rows_of(own);
                     params.partner = rows_of(partner);
                     params.direction = rows_of(direction);
                     params.partner_dim = value.size(3);
                     params.direction_dim = query.size(3);
                     params.sum_scale = 1.0f / static_cast<float>(query_codes.size(2));
                     params.scale = params.sum_scale * static_cast<float>(hash_code_len) / 2;
                     params.out = out.mutable_data_ptr();
                     params.out_sum = out_sum ? out_sum->mutable_data_ptr() : nullptr;
                     return launch_pairs(params, device.stream());
                   });
  };
  visit(queries, keys, g, v, k, grad_query, nullptr);
  visit(keys, queries, v, g, q, grad_key, &grad_value);
  through_scaling(query, query_mask, grad_query, "lsh_attention_backward");
  through_scaling(key, key_mask, grad_key, "lsh_attention_backward");
  return {grad_query, grad_key, grad_value};
}

}  // namespace
}  // namespace yoso::cuda

TORCH_LIBRARY_IMPL(yoso, CUDA, m) {
  m.impl("lsh_cumulation", TORCH_FN(yoso::cuda::lsh_cumulation));
  m.impl("lsh_attention_backward", TORCH_FN(yoso::cuda::lsh_attention_backward));
}
