// The sampled operators process the heads in groups, so that their workspace stays bounded. The torch side.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>

#include "../sort/code_sort.h"
#include "tensors.h"

namespace yoso::cuda {

// Bytes of workspace for the buckets and sums of one group of heads.
constexpr int64_t kWorkspaceBytes = int64_t{384} << 20;

// The query tokens or the key tokens of a call: their hash codes [B, H, num_hash, N] and which of them are real.
struct CodedTokens {
  at::Tensor codes;
  std::optional<at::Tensor> mask;

  CodedTokens(const at::Tensor& any_codes, const std::optional<at::Tensor>& any_mask) : codes(any_codes.contiguous()) {
    if (any_mask) mask = any_mask->contiguous();
    TORCH_CHECK_VALUE(codes.size(3) < kMostTokens, "sequences on CUDA must be shorter than ", kMostTokens, ", got ",
                      codes.size(3));
  }
  int64_t length() const { return codes.size(3); }
  const bool* mask_data() const { return mask ? mask->const_data_ptr<bool>() : nullptr; }
};

// Heads [first, first + count) and their workspace.
struct HeadGroup {
  int64_t first, count;
  unsigned char* workspace;

  // Takes the next bytes_per_head for each of the heads; bytes_per_head is a multiple of 16.
  void* take(int64_t bytes_per_head) {
    unsigned char* taken = workspace;
    workspace += count * bytes_per_head;
    return taken;
  }
};

// A kernel's params with the fields that describe the group set and everything else zero. All kernels' params name
// these fields alike.
template <typename Params>
Params params_of_group(const HeadGroup& group, int64_t heads_per_batch, Dtype dtype) {
  Params params{};
  params.first_head = group.first;
  params.heads = group.count;
  params.heads_per_batch = heads_per_batch;
  params.dtype = dtype;
  return params;
}

inline BucketSizes bucket_sizes(const CodedTokens& queries, const CodedTokens& keys, int64_t hash_code_len,
                                uint32_t most_listed) {
  return {queries.length(), keys.length(), static_cast<int32_t>(keys.codes.size(2)), static_cast<uint32_t>(most_listed),
          static_cast<int32_t>(hash_code_len)};
}

// Sorts the keys of a group's heads into buckets, which the queries look up.
inline Buckets sort_into_buckets(HeadGroup& group, const CodedTokens& queries, const CodedTokens& keys,
                                 const BucketSizes& sizes, cudaStream_t stream, const char* name) {
  CodeSortParams params{};
  params.key_codes = keys.codes.const_data_ptr<uint16_t>();
  params.query_codes = queries.codes.const_data_ptr<uint16_t>();
  params.key_mask = keys.mask_data();
  params.query_mask = queries.mask_data();
  params.first_head = group.first;
  params.heads = group.count;
  params.heads_per_batch = keys.codes.size(1);
  place_buckets(params, sizes, group.take(bucket_bytes(sizes)));
  check_launch(launch_code_sort(params, stream), name);
  return params.buckets;
}

// The number of heads in a group whose workspace fits workspace_bytes, with all groups about equally large. One head
// may take more.
inline int64_t heads_per_group(int64_t heads, int64_t bytes_per_head, int64_t workspace_bytes) {
  const int64_t most = std::clamp<int64_t>(workspace_bytes / bytes_per_head, 1, heads),
                groups = (heads + most - 1) / most;
  return (heads + groups - 1) / groups;
}

// Calls f(group) for every group of heads, one after the other. All groups use the same workspace.
template <typename F>
void for_each_group(const CodedTokens& tokens, int64_t bytes_per_head, int64_t workspace_bytes, F f) {
  const int64_t heads = tokens.codes.size(0) * tokens.codes.size(1),
                most = heads_per_group(heads, bytes_per_head, workspace_bytes);
  at::Tensor workspace = at::empty({most * bytes_per_head}, tokens.codes.options().dtype(at::kByte));
  for (int64_t first = 0; first < heads; first += most) {
    f(HeadGroup{first, std::min(most, heads - first), static_cast<unsigned char*>(workspace.mutable_data_ptr())});
  }
}

}  // namespace yoso::cuda
