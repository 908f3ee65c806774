// A group of lanes holds one token's row and sums in registers and goes through its neighbours, some at once, so that
// the loads and the sums across lanes of several pairs are under way together. What crowded buckets give is taken from
// where it has been summed. No atomics: each side has its own pass.
#include <algorithm>
#include <type_traits>

#include "crowded_sums.cuh"
#include "pairs.h"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // of a block

template <typename Layout>
constexpr int kPairsAtOnce = Layout::kVecs == 1 ? 4 : 2;

// One step: the pairs of a token with the neighbours ids[0 .. wanted), of which there may be more than kPairsAtOnce or
// none. Called by whole warps.
template <typename Layout, bool kSum>
__device__ void visit(const PairsParams& params, const typename Layout::T* partners,
                      const typename Layout::T* directions, const uint32_t* ids, int wanted, const float* own,
                      float* out, float* out_sum) {
  constexpr int kPairs = kPairsAtOnce<Layout>;
  RowPart<Layout> partner[kPairs], direction[kPairs];
#pragma unroll
  for (int u = 0; u < kPairs; ++u) {
    const uint32_t id = u < wanted ? ids[u] : 0;
    partner[u].load(partners + id * params.partner.stride_row, static_cast<int>(params.partner_dim), u < wanted);
    direction[u].load(directions + id * params.direction.stride_row, static_cast<int>(params.direction_dim),
                      u < wanted);
  }
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

template <typename Layout, bool kSum>
__global__ void __launch_bounds__(kWarps* kWarp, 2) visit_pairs(PairsParams params, unsigned blocks_a_head) {
  using T = typename Layout::T;
  __shared__ __align__(16) uint32_t lists[kWarps * Layout::kGroups][kWindow];
  const Buckets& buckets = params.buckets;
  const unsigned head = blockIdx.x / blocks_a_head, global_head = static_cast<unsigned>(params.first_head) + head;
  const int slot = threadIdx.x / Layout::kLanes;
  const int64_t token = int64_t{blockIdx.x % blocks_a_head} * (kWarps * Layout::kGroups) + slot;
  const bool wanted = token < buckets.num_query;
  const T* partners = head_rows<T>(params.partner, global_head, params.heads_per_batch);
  const T* directions = head_rows<T>(params.direction, global_head, params.heads_per_batch);
  RowPart<Layout> own_row;
  own_row.load(head_rows<T>(params.own, global_head, params.heads_per_batch) + token * params.own.stride_row,
               static_cast<int>(params.partner_dim), wanted);
  float own[Layout::kFloats], out[Layout::kFloats] = {}, out_sum[Layout::kFloats] = {};
  own_row.floats(own);

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
      for (int k = 0; k < steps; k += kPairsAtOnce<Layout>) {
        visit<Layout, kSum>(params, partners, directions, &lists[slot][k], length - k, own, out, out_sum);
      }
      __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < others.kEach; ++r) crowded |= others.crowded(r);
    if (kSum) {
      add_crowded_sums<Layout>(others, buckets, head, first_hash, params.crowded_sums,
                               static_cast<int>(params.partner_dim), out_sum);
    }
  }
  const uint32_t group = (kWholeWarp >> (kWarp - Layout::kLanes))
                         << (threadIdx.x % kWarp / Layout::kLanes * Layout::kLanes);
  if (__ballot_sync(kWholeWarp, crowded) & group) {
    const float* sums = params.moments + (head * buckets.num_query + token) * float_row(params.direction_dim);
    add_floats<Layout>(sums, static_cast<int>(params.direction_dim), out);
  }
  if (!wanted) return;
  const int64_t row = global_head * buckets.num_query + token;
  store_row<Layout>(out, params.scale, static_cast<T*>(params.out) + row * params.direction_dim,
                    static_cast<int>(params.direction_dim));
  if (!kSum) return;
  store_row<Layout>(out_sum, params.sum_scale, static_cast<T*>(params.out_sum) + row * params.partner_dim,
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
