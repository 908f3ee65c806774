// The torch side of lsh_attention_backward: per group of heads, two sorts, and for each side the moments of crowded
// buckets and a visit to all other pairs.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>
#include <optional>
#include <tuple>

#include "../../checks.h"
#include "../common/head_groups.h"
#include "../common/scale_rows.h"
#include "../common/tensors.h"
#include "../sums/crowded_sums.h"
#include "moments.h"
#include "pairs.h"

namespace yoso::cuda {
namespace {

constexpr char kName[] = "lsh_attention_backward";
using Mask = std::optional<at::Tensor>;

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
  check_one_device(kName, value, grad, query, key, query_codes, key_codes, query_mask, key_mask);
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
  const cudaStream_t stream = device.stream();
  const CodedTokens queries(query_codes, query_mask), keys(key_codes, key_mask);
  const at::Tensor g = with_dense_rows(grad.to(value.scalar_type())), v = with_dense_rows(value);
  const at::Tensor q = to_unit_rows(query, kName), k = to_unit_rows(key, kName);

  const int64_t dim = query.size(3), value_dim = value.size(3);
  const int64_t moments_bytes =
      std::max(queries.length(), keys.length()) * float_row(dim) * static_cast<int64_t>(sizeof(float));
  // If that is more, a quarter of the call's tensors: the moments of a few heads leave most of the device idle, so long
  // sequences need more heads at once.
  const int64_t tensor_bytes = 3 * query.nbytes() + 2 * key.nbytes() + 2 * value.nbytes() + query_codes.nbytes() * 2;
  const int64_t workspace_bytes = std::max(kWorkspaceBytes, tensor_bytes / 4), heads = value.size(0) * value.size(1);
  BucketSizes key_sizes, query_sizes;
  int64_t sums_bytes, bytes;
  const auto set_most_listed = [&](uint32_t most) {
    key_sizes = bucket_sizes(queries, keys, hash_code_len, most);
    query_sizes = bucket_sizes(keys, queries, hash_code_len, most);
    sums_bytes = crowded_sums_bytes(query_sizes, value_dim);
    bytes = bucket_bytes(key_sizes) + bucket_bytes(query_sizes) + sums_bytes + moments_bytes;
  };
  set_most_listed(kFewestListed);
  set_most_listed(most_listed(heads_per_group(heads, bytes, workspace_bytes), key_sizes, value_dim, dim, dtype));
  // If one head exceeds the workspace: with the largest most_listed fewer buckets can be crowded, and sums take less.
  if (bytes > workspace_bytes) set_most_listed(kMostListed);

  for_each_group(keys, bytes, workspace_bytes, [&](HeadGroup group) {
    const Buckets sorted_keys = sort_into_buckets(group, queries, keys, key_sizes, stream, kName);
    const Buckets sorted_queries = sort_into_buckets(group, keys, queries, query_sizes, stream, kName);
    float* sums = static_cast<float*>(group.take(sums_bytes));
    float* moments = static_cast<float*>(group.take(moments_bytes));
    // The gradients of one side; see pairs.h for own, partner and direction.
    const auto compute_gradients = [&](const Buckets& sources, const Buckets& targets, const at::Tensor& own,
                                       const at::Tensor& partner, const at::Tensor& direction, at::Tensor& out,
                                       at::Tensor* out_sum) {
      auto crowded = params_of_group<MomentsParams>(group, value.size(1), dtype);
      crowded.sources = sources;
      crowded.targets = targets;
      crowded.own = rows_of(own);
      crowded.partner = rows_of(partner);
      crowded.direction = rows_of(direction);
      crowded.partner_dim = value_dim;
      crowded.direction_dim = dim;
      crowded.out = moments;
      check_launch(launch_moments(crowded, stream), kName);
      auto pairs = params_of_group<PairsParams>(group, value.size(1), dtype);
      pairs.buckets = sources;
      pairs.own = crowded.own;
      pairs.partner = crowded.partner;
      pairs.direction = crowded.direction;
      pairs.partner_dim = value_dim;
      pairs.direction_dim = dim;
      pairs.sum_scale = 1.0f / static_cast<float>(sources.num_hash);
      pairs.scale = pairs.sum_scale * static_cast<float>(hash_code_len) / 2;
      pairs.out = out.mutable_data_ptr();
      pairs.out_sum = out_sum ? out_sum->mutable_data_ptr() : nullptr;
      pairs.moments = moments;
      pairs.crowded_sums = sums;
      check_launch(launch_pairs(pairs, stream), kName);
    };
    compute_gradients(sorted_keys, sorted_queries, g, v, k, grad_query, nullptr);
    auto summed = params_of_group<CrowdedSumsParams>(group, value.size(1), dtype);
    summed.buckets = sorted_queries;
    summed.rows = rows_of(g);
    summed.columns = value_dim;
    summed.sums = sums;
    check_launch(launch_crowded_sums(summed, stream), kName);
    compute_gradients(sorted_queries, sorted_keys, v, g, q, grad_key, &grad_value);
  });
  backward_through_unit_rows(query, query_mask, grad_query, kName);
  backward_through_unit_rows(key, key_mask, grad_key, kName);
  return {grad_query, grad_key, grad_value};
}

}  // namespace
}  // namespace yoso::cuda

TORCH_LIBRARY_IMPL(yoso, CUDA, m) { m.impl("lsh_attention_backward", TORCH_FN(yoso::cuda::lsh_attention_backward)); }
