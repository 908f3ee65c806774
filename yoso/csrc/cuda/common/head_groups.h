// The heads of the sampled operators, some at a time, and their buckets.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>

#include "../sort/code_sort.h"
#include "tensors.h"

namespace yoso::cuda {

// Bytes for what lies between the sort and the sums of some heads.
constexpr int64_t kSpace = int64_t{384} << 20;

// The tokens of one side: their codes and which of them are real.
struct Side {
  at::Tensor codes;
  std::optional<at::Tensor> mask;

  Side(const at::Tensor& given_codes, const std::optional<at::Tensor>& given_mask) : codes(given_codes.contiguous()) {
    if (given_mask) mask = given_mask->contiguous();
    TORCH_CHECK_VALUE(codes.size(3) < kMostTokens, "sequences on CUDA must be shorter than ", kMostTokens, ", got ",
                      codes.size(3));
  }
  int64_t length() const { return codes.size(3); }
  const bool* mask_data() const { return mask ? mask->const_data_ptr<bool>() : nullptr; }
};

// Heads [first, first + count) and the memory that is theirs.
struct HeadGroup {
  int64_t first, count;
  unsigned char* space;

  // The next bytes_a_head for each of the heads; a multiple of 16.
  void* take(int64_t bytes_a_head) {
    unsigned char* here = space;
    space += count * bytes_a_head;
    return here;
  }
};

// A kernel's params with the group's heads, which all of them name alike; the rest is zero.
template <typename Params>
Params of_heads(const HeadGroup& group, int64_t heads_per_batch, Dtype dtype) {
  Params params{};
  params.first_head = group.first;
  params.heads = group.count;
  params.heads_per_batch = heads_per_batch;
  params.dtype = dtype;
  return params;
}

inline BucketSizes bucket_sizes(const Side& queries, const Side& keys, int64_t hash_code_len, uint32_t most_listed) {
  return {queries.length(), keys.length(), static_cast<int32_t>(keys.codes.size(2)), static_cast<uint32_t>(most_listed),
          static_cast<int32_t>(hash_code_len)};
}

// The keys of a group's heads in their buckets, for queries to look up.
inline Buckets sort(HeadGroup& group, const Side& queries, const Side& keys, const BucketSizes& sizes,
                    cudaStream_t stream, const char* name) {
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

// How many heads share `space` bytes, in groups of one size; one head may take more.
inline int64_t heads_at_once(int64_t heads, int64_t bytes_a_head, int64_t space) {
  const int64_t most = std::clamp<int64_t>(space / bytes_a_head, 1, heads), groups = (heads + most - 1) / most;
  return (heads + groups - 1) / groups;
}

// Calls f(group) for all heads, some at a time.
template <typename F>
void for_each_group(const Side& side, int64_t bytes_a_head, int64_t space, F f) {
  const int64_t heads = side.codes.size(0) * side.codes.size(1), most = heads_at_once(heads, bytes_a_head, space);
  at::Tensor memory = at::empty({most * bytes_a_head}, side.codes.options().dtype(at::kByte));
  for (int64_t first = 0; first < heads; first += most) {
    f(HeadGroup{first, std::min(most, heads - first), static_cast<unsigned char*>(memory.mutable_data_ptr())});
  }
}

}  // namespace yoso::cuda
