// The torch side of lsh_cumulation: per group of heads, a sort, the sums of crowded buckets, and the cumulation.
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <optional>

#include "../../checks.h"
#include "../common/head_groups.h"
#include "../common/tensors.h"
#include "crowded_sums.h"
#include "cumulation.h"

namespace yoso::cuda {
namespace {

at::Tensor lsh_cumulation(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value,
                          const std::optional<at::Tensor>& query_mask, const std::optional<at::Tensor>& key_mask,
                          int64_t hash_code_len, bool unrounded) {
  check_hash_code_len(hash_code_len);
  check_codes(query_codes, key_codes, value);
  check_one_device("lsh_cumulation", value, query_codes, key_codes, query_mask, key_mask);
  check_mask(query_mask, value.size(0), query_codes.size(3), "query_mask");
  check_mask(key_mask, value.size(0), value.size(2), "key_mask");
  const Dtype dtype = dtype_of(value, "value");
  check_head_dim(value, "value");
  const int64_t dim = value.size(3);
  at::Tensor out = at::empty({value.size(0), value.size(1), query_codes.size(3), dim},
                             value.options().dtype(unrounded ? at::kFloat : value.scalar_type()));
  if (out.numel() == 0) return out;
  const Device device(value);
  const CodedTokens queries(query_codes, query_mask), keys(key_codes, key_mask);
  const at::Tensor rows = with_dense_rows(value);
  const BucketSizes sizes = bucket_sizes(queries, keys, hash_code_len, kFewestListed);
  const int64_t sums_bytes = crowded_sums_bytes(sizes, dim);
  for_each_group(keys, bucket_bytes(sizes) + sums_bytes, kWorkspaceBytes, [&](HeadGroup group) {
    const Buckets buckets = sort_into_buckets(group, queries, keys, sizes, device.stream(), "lsh_cumulation");
    float* sums = static_cast<float*>(group.take(sums_bytes));
    auto crowded = params_of_group<CrowdedSumsParams>(group, value.size(1), dtype);
    crowded.buckets = buckets;
    crowded.rows = rows_of(rows);
    crowded.columns = dim;
    crowded.sums = sums;
    check_launch(launch_crowded_sums(crowded, device.stream()), "lsh_cumulation");
    auto params = params_of_group<CumulationParams>(group, value.size(1), dtype);
    params.buckets = buckets;
    params.value = rows_of(rows);
    params.out = out.mutable_data_ptr();
    params.float32_out = unrounded;
    params.columns = dim;
    params.scale = 1.0f / static_cast<float>(sizes.num_hash);
    params.crowded_sums = sums;
    check_launch(launch_cumulation(params, device.stream()), "lsh_cumulation");
  });
  return out;
}

}  // namespace
}  // namespace yoso::cuda

TORCH_LIBRARY_IMPL(yoso, CUDA, m) { m.impl("lsh_cumulation", TORCH_FN(yoso::cuda::lsh_cumulation)); }
