// A group of lanes keeps one query's output row in registers and adds the value rows of the keys in the query's
// buckets. The sums of crowded buckets are computed before, once for all their queries.
#include <type_traits>

#include "colliding_tokens.cuh"
#include "cumulation.h"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // per CTA
static_assert(kWindow % kRowsAtOnce == 0 && kRowsAtOnce == 4, "a list is read in vectors of kRowsAtOnce ids");

// As many CTAs per SM as registers allow without spills.
template <typename Layout>
constexpr int kCtasPerSm = Layout::kVectorElements == 1   ? 2
                           : Layout::kVectorsPerLane == 2 ? 3
                                                          : 4;

template <typename Layout>
__global__ void __launch_bounds__(kWarps* kWarp, kCtasPerSm<Layout>)
    cumulate(CumulationParams params, unsigned ctas_per_head) {
  __shared__ __align__(16) uint32_t lists[kWarps * Layout::kRowsPerWarp][kWindow];
  const Buckets& buckets = params.buckets;
  const unsigned head = blockIdx.x / ctas_per_head, global_head = static_cast<unsigned>(params.first_head) + head;
  const int slot = threadIdx.x / Layout::kLanes, columns = static_cast<int>(params.columns);
  const int64_t query = int64_t{blockIdx.x % ctas_per_head} * (kWarps * Layout::kRowsPerWarp) + slot;
  const LaneRows<Layout> value(params.value, global_head, params.heads_per_batch, params.columns);
  const bool wanted = query < buckets.num_query;
  float x[Layout::kElementsPerLane] = {};
  CollidingTokens<Layout::kLanes> keys;
  for (int first_hash = 0; first_hash < buckets.num_hash; first_hash += keys.kHashes) {
    keys.look_up(buckets, head, query, first_hash, wanted);
    const uint32_t longest = largest_of_groups<Layout::kLanes>(keys.total);
    for (uint32_t from = 0; from < longest; from += kWindow) {
      keys.write_window(buckets, lists[slot], from);
      __syncwarp();
      const uint32_t length = keys.total > from ? min(keys.total - from, 1u * kWindow) : 0;
      const uint32_t whole = length / kRowsAtOnce * kRowsAtOnce;
      const auto* ids = reinterpret_cast<const uint4*>(lists[slot]);
#pragma unroll 1
      for (uint32_t k = 0; k < whole; k += kRowsAtOnce) add_rows<Layout>(value, ids[k / kRowsAtOnce], kRowsAtOnce, x);
      if (whole < length) add_rows<Layout>(value, ids[whole / kRowsAtOnce], static_cast<int>(length - whole), x);
      __syncwarp();
    }
    add_crowded_sums<Layout>(keys, buckets, head, first_hash, params.crowded_sums, columns, x);
  }
  if (!wanted) return;
  const int64_t first = (global_head * buckets.num_query + query) * params.columns;
  if (params.float32_out) {
    store_row<Layout>(x, params.scale, static_cast<float*>(params.out) + first, columns);
  } else {
    store_row<Layout>(x, params.scale, static_cast<typename Layout::T*>(params.out) + first, columns);
  }
}

template <typename Layout>
cudaError_t launch_in_layout(const CumulationParams& params, cudaStream_t stream) {
  constexpr int64_t kRowsPerCta = kWarps * Layout::kRowsPerWarp;
  const int64_t ctas_per_head = (params.buckets.num_query + kRowsPerCta - 1) / kRowsPerCta;
  return launch(cumulate<Layout>, dim3(static_cast<unsigned>(params.heads * ctas_per_head)), dim3(kWarps * kWarp), 0,
                stream, params, static_cast<unsigned>(ctas_per_head));
}

}  // namespace

cudaError_t launch_cumulation(const CumulationParams& params, cudaStream_t stream) {
  const bool vectors = in_vectors(params.value, params.columns, params.dtype);
  return with_dtype(params.dtype, [&](auto* type) {
    return with_layout<std::remove_pointer_t<decltype(type)>>(
        params.columns, vectors, [&](auto layout) { return launch_in_layout<decltype(layout)>(params, stream); });
  });
}

}  // namespace yoso::cuda
