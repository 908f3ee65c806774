// One warp sums the rows of one crowded bucket.
#include <type_traits>

#include "crowded_sums.h"
#include "lane_rows.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // per CTA

// The groups of a warp take every kRowsPerWarp-th key of a bucket each, and their sums are added in a fixed tree.
template <typename Layout>
__global__ void __launch_bounds__(kWarps* kWarp) sum_crowded(CrowdedSumsParams params, unsigned ctas_per_index) {
  const Buckets& buckets = params.buckets;
  const unsigned index = blockIdx.x / ctas_per_index, part = blockIdx.x % ctas_per_index;  // index: (head, hash)
  const int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp / Layout::kLanes;
  const int columns = static_cast<int>(params.columns);
  const unsigned head = static_cast<unsigned>(params.first_head) + index / buckets.num_hash;
  const LaneRows<Layout> rows(params.rows, head, params.heads_per_batch, params.columns);
  // Addresses are recomputed for each bucket, so that few registers live through the loop.
  for (uint32_t b = part * kWarps + warp; b < buckets.crowded_count[index]; b += ctas_per_index * kWarps) {
    const int64_t place = index * buckets.crowded_capacity + b;
    const uint2 bucket = buckets.crowded[place];
    const uint32_t* ids = buckets.ids + index * buckets.num_key + bucket.x;
    float x[Layout::kElementsPerLane] = {};
    for (uint32_t k = group; k < bucket.y; k += kRowsAtOnce * Layout::kRowsPerWarp) {
      const int wanted =
          static_cast<int>(min((bucket.y - k + Layout::kRowsPerWarp - 1) / Layout::kRowsPerWarp, 1u * kRowsAtOnce));
      uint32_t id[kRowsAtOnce] = {};
#pragma unroll
      for (int u = 0; u < kRowsAtOnce; ++u) {
        if (u < wanted) id[u] = ids[k + u * Layout::kRowsPerWarp];
      }
      add_rows<Layout>(rows, make_uint4(id[0], id[1], id[2], id[3]), wanted, x);
    }
    __syncwarp();
#pragma unroll
    for (int step = Layout::kLanes; step < kWarp; step *= 2) {
#pragma unroll
      for (int c = 0; c < Layout::kElementsPerLane; ++c) x[c] += __shfl_xor_sync(kWholeWarp, x[c], step);
    }
    float* row = params.sums + place * float_row(params.columns);
#pragma unroll
    for (int v = 0; v < Layout::kVectorsPerLane; ++v) {
      if (group != 0 || Layout::column(v) >= columns) continue;
#pragma unroll
      for (int c = 0; c < Layout::kVectorElements; ++c) {
        row[Layout::column(v) + c] = x[v * Layout::kVectorElements + c];
      }
    }
  }
}

template <typename Layout>
cudaError_t launch_in_layout(const CrowdedSumsParams& params, cudaStream_t stream) {
  // A warp loops over its share of the buckets: usually few are crowded, and only the device knows how many.
  constexpr int64_t kBucketsPerCta = 32 * kWarps;
  const int64_t ctas_per_index = (params.buckets.crowded_capacity + kBucketsPerCta - 1) / kBucketsPerCta;
  const int64_t ctas = params.heads * params.buckets.num_hash * ctas_per_index;
  if (ctas == 0) return cudaSuccess;
  return launch(sum_crowded<Layout>, dim3(static_cast<unsigned>(ctas)), dim3(kWarps * kWarp), 0, stream, params,
                static_cast<unsigned>(ctas_per_index));
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
