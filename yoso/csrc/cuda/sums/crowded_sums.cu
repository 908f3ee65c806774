#include <type_traits>

#include "crowded_sums.h"
#include "cumulation_rows.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // of a block

// One warp a crowded bucket; its groups take every kGroups-th key and add up in a fixed tree.
template <typename Layout>
__global__ void __launch_bounds__(kWarps* kWarp) sum_crowded(CrowdedSumsParams params, unsigned parts) {
  const Buckets& buckets = params.buckets;
  const unsigned index = blockIdx.x / parts, part = blockIdx.x % parts;
  const int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp / Layout::kLanes;
  const int columns = static_cast<int>(params.columns);
  const unsigned head = static_cast<unsigned>(params.first_head) + index / buckets.num_hash;
  const LaneRows<Layout> rows(params.rows, head, params.heads_per_batch, params.columns);
  // Addresses are made anew for each bucket: few registers live through the loop.
  for (uint32_t b = part * kWarps + warp; b < buckets.crowded_count[index]; b += parts * kWarps) {
    const int64_t place = index * buckets.crowded_capacity + b;
    const uint2 bucket = buckets.crowded[place];
    const uint32_t* ids = buckets.ids + index * buckets.num_key + bucket.x;
    float x[Layout::kFloats] = {};
    for (uint32_t k = group; k < bucket.y; k += kRowsAtOnce * Layout::kGroups) {
      const int wanted =
          static_cast<int>(min((bucket.y - k + Layout::kGroups - 1) / Layout::kGroups, 1u * kRowsAtOnce));
      uint32_t id[kRowsAtOnce] = {};
#pragma unroll
      for (int u = 0; u < kRowsAtOnce; ++u) {
        if (u < wanted) id[u] = ids[k + u * Layout::kGroups];
      }
      add_rows<Layout>(rows, make_uint4(id[0], id[1], id[2], id[3]), wanted, x);
    }
    __syncwarp();
#pragma unroll
    for (int step = Layout::kLanes; step < kWarp; step *= 2) {
#pragma unroll
      for (int c = 0; c < Layout::kFloats; ++c) x[c] += __shfl_xor_sync(kWholeWarp, x[c], step);
    }
    float* row = params.sums + place * float_row(params.columns);
#pragma unroll
    for (int v = 0; v < Layout::kVecs; ++v) {
      if (group != 0 || Layout::column(v) >= columns) continue;
#pragma unroll
      for (int c = 0; c < Layout::kVec; ++c) row[Layout::column(v) + c] = x[v * Layout::kVec + c];
    }
  }
}

template <typename Layout>
cudaError_t launch_in_layout(const CrowdedSumsParams& params, cudaStream_t stream) {
  // A block loops over its share: usually few buckets are crowded, and how many is known on the device only.
  constexpr int64_t kBucketsABlock = 32 * kWarps;
  const int64_t parts = (params.buckets.crowded_capacity + kBucketsABlock - 1) / kBucketsABlock;
  const int64_t blocks = params.heads * params.buckets.num_hash * parts;
  if (blocks == 0) return cudaSuccess;
  return launch(sum_crowded<Layout>, dim3(static_cast<unsigned>(blocks)), dim3(kWarps * kWarp), 0, stream, params,
                static_cast<unsigned>(parts));
}

}  // namespace

cudaError_t launch_crowded_sums(const CrowdedSumsParams& params, cudaStream_t stream) {
  const bool vectors = in_vectors(params.rows, params.columns, params.dtype);
  return with_dtype(params.dtype, [&](auto* type) {
    return with_layout<std::remove_pointer_t<decltype(type)>>(
        params.columns, vectors, [&](auto layout) { return launch_in_layout<decltype(layout)>(params, stream); });
  });
}

}  // namespace yoso::cuda
