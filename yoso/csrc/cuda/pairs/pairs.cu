// A group of lanes keeps one token's row and results in registers and visits the tokens that collide with it, several
// at a time, so that the loads and the sums over lanes of several pairs overlap. The contributions of crowded buckets
// are computed before and added. The two sides have separate launches, so no atomics are needed.
#include <algorithm>
#include <type_traits>

#include "../sums/colliding_tokens.cuh"
#include "pairs.h"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // per CTA

template <typename Layout>
constexpr int kPairsAtOnce = Layout::kVectorsPerLane == 1 ? 4 : 2;

// The sums of a group's token over the pairs visited so far, and the rows that are being loaded.
template <typename Layout, bool kSum>
struct PairSums {
  static constexpr int kPairs = kPairsAtOnce<Layout>;
  const LaneRows<Layout> partners, directions;
  float own[Layout::kElementsPerLane], out[Layout::kElementsPerLane] = {}, out_sum[Layout::kElementsPerLane] = {};
  RowPart<Layout> partner[kPairs], direction[kPairs];

  __device__ PairSums(const PairsParams& params, unsigned head, int64_t token, bool wanted)
      : partners(params.partner, head, params.heads_per_batch, params.partner_dim),
        directions(params.direction, head, params.heads_per_batch, params.direction_dim) {
    const LaneRows<Layout> owns(params.own, head, params.heads_per_batch, params.partner_dim);
    partner[0].load_or_clear(owns, static_cast<uint32_t>(token), wanted);
    partner[0].floats(own);
#pragma unroll
    for (int u = 0; u < kPairs; ++u) partner[u].clear(), direction[u].clear();
  }

  // Adds the pairs with the tokens ids[0 ... kPairs - 1]. Called by whole warps, like add_some.
  __device__ void add(const uint32_t* ids) {
#pragma unroll
    for (int u = 0; u < kPairs; ++u) {
      const uint32_t id = ids[u];
      partner[u].load(partners, id);
      direction[u].load(directions, id);
    }
    add_rows(kPairs);
  }

  // Adds the pairs with the first `wanted` of them; `wanted` may be more than kPairs, or 0 or less.
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
      float row[Layout::kElementsPerLane];
      partner[u].floats(row);
#pragma unroll
      for (int c = 0; c < Layout::kElementsPerLane; ++c) {
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
      if (u >= wanted) weight[u] = 0;  // own may hold a NaN, whose product with a zero row is a NaN
      float row[Layout::kElementsPerLane];
      direction[u].floats(row);
#pragma unroll
      for (int c = 0; c < Layout::kElementsPerLane; ++c) out[c] += weight[u] * row[c];
    }
  }
};

template <typename Layout, bool kSum>
__global__ void __launch_bounds__(kWarps* kWarp, 2) visit_pairs(PairsParams params, unsigned ctas_per_head) {
  using T = typename Layout::T;
  __shared__ __align__(16) uint32_t lists[kWarps * Layout::kRowsPerWarp][kWindow];
  const Buckets& buckets = params.buckets;
  const unsigned head = blockIdx.x / ctas_per_head, global_head = static_cast<unsigned>(params.first_head) + head;
  const int slot = threadIdx.x / Layout::kLanes;
  const int64_t token = int64_t{blockIdx.x % ctas_per_head} * (kWarps * Layout::kRowsPerWarp) + slot;
  const bool wanted = token < buckets.num_query;
  PairSums<Layout, kSum> sums(params, global_head, token, wanted);
  CollidingTokens<Layout::kLanes> others;
  bool crowded = false;
  for (int first_hash = 0; first_hash < buckets.num_hash; first_hash += others.kHashes) {
    others.look_up(buckets, head, token, first_hash, wanted);
    const uint32_t longest = largest_of_groups<Layout::kLanes>(others.total);
    for (uint32_t from = 0; from < longest; from += kWindow) {
      others.write_window(buckets, lists[slot], from);
      __syncwarp();
      // `length` ids of this window are the group's own; `steps` is the longest group's length and `whole` the
      // shortest's, so that up to `whole` no group needs a check.
      const int length = others.total > from ? static_cast<int>(min(others.total - from, 1u * kWindow)) : 0;
      const int steps = static_cast<int>(min(longest - from, 1u * kWindow));
      const int whole = kWindow - static_cast<int>(largest_of_groups<Layout::kLanes>(kWindow - length));
      int k = 0;
#pragma unroll 1
      for (; k + sums.kPairs <= whole; k += sums.kPairs) sums.add(&lists[slot][k]);
#pragma unroll 1
      for (; k < steps; k += sums.kPairs) sums.add_some(&lists[slot][k], length - k);
      __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < others.kHashesPerLane; ++r) crowded |= others.crowded(r);
    if (kSum) {
      add_crowded_sums<Layout>(others, buckets, head, first_hash, params.crowded_sums,
                               static_cast<int>(params.partner_dim), sums.out_sum);
    }
  }
  const uint32_t group = (kWholeWarp >> (kWarp - Layout::kLanes))
                         << (threadIdx.x % kWarp / Layout::kLanes * Layout::kLanes);
  if (__ballot_sync(kWholeWarp, crowded) & group) {
    const float* moment = params.moments + (head * buckets.num_query + token) * float_row(params.direction_dim);
    add_floats<Layout>(moment, static_cast<int>(params.direction_dim), sums.out);
  }
  if (!wanted) return;
  const int64_t row = global_head * buckets.num_query + token;
  store_row<Layout>(sums.out, params.scale, static_cast<T*>(params.out) + row * params.direction_dim,
                    static_cast<int>(params.direction_dim));
  if (!kSum) return;
  store_row<Layout>(sums.out_sum, params.sum_scale, static_cast<T*>(params.out_sum) + row * params.partner_dim,
                    static_cast<int>(params.partner_dim));
}

template <typename Layout>
cudaError_t launch_in_layout(const PairsParams& params, cudaStream_t stream) {
  constexpr int64_t kRowsPerCta = kWarps * Layout::kRowsPerWarp;
  const int64_t ctas_per_head = (params.buckets.num_query + kRowsPerCta - 1) / kRowsPerCta;
  return launch(params.out_sum ? visit_pairs<Layout, true> : visit_pairs<Layout, false>,
                dim3(static_cast<unsigned>(params.heads * ctas_per_head)), dim3(kWarps * kWarp), 0, stream, params,
                static_cast<unsigned>(ctas_per_head));
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
