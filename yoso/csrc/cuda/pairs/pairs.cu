// A group of lanes holds one token's row and sums in registers and goes through its neighbours, some at once, so that
// the loads and the sums across lanes of several pairs are under way together. What crowded buckets give is taken from
// where it has been summed. No atomics: each side has its own pass.
#include <algorithm>
#include <type_traits>

#include "../sums/crowded_sums.cuh"
#include "pairs.h"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // of a block

template <typename Layout>
constexpr int kPairsAtOnce = Layout::kVecs == 1 ? 4 : 2;

// What the group's token has met so far, and the rows that are under way.
template <typename Layout, bool kSum>
struct Visit {
  static constexpr int kPairs = kPairsAtOnce<Layout>;
  const LaneRows<Layout> partners, directions;
  float own[Layout::kFloats], out[Layout::kFloats] = {}, out_sum[Layout::kFloats] = {};
  RowPart<Layout> partner[kPairs], direction[kPairs];

  __device__ Visit(const PairsParams& params, unsigned head, int64_t token, bool wanted)
      : partners(params.partner, head, params.heads_per_batch, params.partner_dim),
        directions(params.direction, head, params.heads_per_batch, params.direction_dim) {
    const LaneRows<Layout> owns(params.own, head, params.heads_per_batch, params.partner_dim);
    partner[0].load_or_clear(owns, static_cast<uint32_t>(token), wanted);
    partner[0].floats(own);
#pragma unroll
    for (int u = 0; u < kPairs; ++u) partner[u].clear(), direction[u].clear();
  }

  // The pairs with neighbours ids[0 .. kPairs). Called by whole warps, as is add_some.
  __device__ void add(const uint32_t* ids) {
#pragma unroll
    for (int u = 0; u < kPairs; ++u) {
      const uint32_t id = ids[u];
      partner[u].load(partners, id);
      direction[u].load(directions, id);
    }
    add_rows(kPairs);
  }

  // The first `wanted` of them, of which there may be more or none.
  __device__ void add_some(const uint32_t* ids, int wanted) {
#pragma unroll
    for (int u = 0; u < kPairs; ++u) {
      const uint32_t id = u < wanted ? ids[u] : 0;
      partner[u].load_or_clear(partners, id, u < wanted);
      direction[u].load_or_clear(directions, id, u < wanted);
    }
    add_rows(wanted);
  }

 private:
  __device__ void add_rows(int wanted) {
    float weight[kPairs] = {};
#pragma unroll
    for (int u = 0; u < kPairs; ++u) {
      float row[Layout::kFloats];
      partner[u].floats(row);
#pragma unroll
      for (int c = 0; c < Layout::kFloats; ++c) {
        weight[u] += own[c] * row[c];
        if (kSum) out_sum[c] += row[c];
      }
    }
#pragma unroll
    for (int step = Layout::kLanes / 2; step > 0; step /= 2) {
#pragma unroll
      for (int u = 0; u < kPairs; ++u) weight[u] += __shfl_xor_sync(kWholeWarp, weight[u], step);
    }
#pragma unroll
    for (int u = 0; u < kPairs; ++u) {
      if (u >= wanted) weight[u] = 0;  // own may hold a NaN
      float row[Layout::kFloats];
      direction[u].floats(row);
#pragma unroll
      for (int c = 0; c < Layout::kFloats; ++c) out[c] += weight[u] * row[c];
    }
  }
};

template <typename Layout, bool kSum>
__global__ void __launch_bounds__(kWarps* kWarp, 2) visit_pairs(PairsParams params, unsigned blocks_a_head) {
  using T = typename Layout::T;
  __shared__ __align__(16) uint32_t lists[kWarps * Layout::kGroups][kWindow];
  const Buckets& buckets = params.buckets;
  const unsigned head = blockIdx.x / blocks_a_head, global_head = static_cast<unsigned>(params.first_head) + head;
  const int slot = threadIdx.x / Layout::kLanes;
  const int64_t token = int64_t{blockIdx.x % blocks_a_head} * (kWarps * Layout::kGroups) + slot;
  const bool wanted = token < buckets.num_query;
  Visit<Layout, kSum> visit(params, global_head, token, wanted);
  Neighbours<Layout::kLanes> others;
  bool crowded = false;
  for (int first_hash = 0; first_hash < buckets.num_hash; first_hash += others.kHashes) {
    others.find(buckets, head, token, first_hash, wanted);
    const uint32_t longest = largest_of_groups<Layout::kLanes>(others.total);
    for (uint32_t from = 0; from < longest; from += kWindow) {
      others.write(buckets, lists[slot], from);
      __syncwarp();
      const int length = others.total > from ? static_cast<int>(min(others.total - from, 1u * kWindow)) : 0;
      const int steps = static_cast<int>(min(longest - from, 1u * kWindow));
      const int whole = kWindow - static_cast<int>(largest_of_groups<Layout::kLanes>(kWindow - length));
      int k = 0;
#pragma unroll 1
      for (; k + visit.kPairs <= whole; k += visit.kPairs) visit.add(&lists[slot][k]);
#pragma unroll 1
      for (; k < steps; k += visit.kPairs) visit.add_some(&lists[slot][k], length - k);
      __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < others.kEach; ++r) crowded |= others.crowded(r);
    if (kSum) {
      add_crowded_sums<Layout>(others, buckets, head, first_hash, params.crowded_sums,
                               static_cast<int>(params.partner_dim), visit.out_sum);
    }
  }
  const uint32_t group = (kWholeWarp >> (kWarp - Layout::kLanes))
                         << (threadIdx.x % kWarp / Layout::kLanes * Layout::kLanes);
  if (__ballot_sync(kWholeWarp, crowded) & group) {
    const float* sums = params.moments + (head * buckets.num_query + token) * float_row(params.direction_dim);
    add_floats<Layout>(sums, static_cast<int>(params.direction_dim), visit.out);
  }
  if (!wanted) return;
  const int64_t row = global_head * buckets.num_query + token;
  store_row<Layout>(visit.out, params.scale, static_cast<T*>(params.out) + row * params.direction_dim,
                    static_cast<int>(params.direction_dim));
  if (!kSum) return;
  store_row<Layout>(visit.out_sum, params.sum_scale, static_cast<T*>(params.out_sum) + row * params.partner_dim,
                    static_cast<int>(params.partner_dim));
}

template <typename Layout>
cudaError_t launch_in_layout(const PairsParams& params, cudaStream_t stream) {
  constexpr int64_t kRowsABlock = kWarps * Layout::kGroups;
  const int64_t blocks_a_head = (params.buckets.num_query + kRowsABlock - 1) / kRowsABlock;
  return launch(params.out_sum ? visit_pairs<Layout, true> : visit_pairs<Layout, false>,
                dim3(static_cast<unsigned>(params.heads * blocks_a_head)), dim3(kWarps * kWarp), 0, stream, params,
                static_cast<unsigned>(blocks_a_head));
}

}  // namespace

cudaError_t launch_pairs(const PairsParams& params, cudaStream_t stream) {
  const bool vectors = in_vectors(params.own, params.partner_dim, params.dtype) &&
                       in_vectors(params.partner, params.partner_dim, params.dtype) &&
                       in_vectors(params.direction, params.direction_dim, params.dtype);
  return with_dtype(params.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return with_layout<T>(std::max(params.partner_dim, params.direction_dim), vectors,
                          [&](auto layout) { return launch_in_layout<decltype(layout)>(params, stream); });
  });
}

}  // namespace yoso::cuda
