// A block owns some columns of one head's results and goes through the hashes in order, so each number is added up in
// one order without atomics; a warp takes a crowded bucket at a time. The moment, transposed, comes out of the tensor
// cores into the registers where they want it for the product with the targets' rows.
#include <algorithm>
#include <type_traits>

#include "moments_work.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // of a block
constexpr int kFewTokens = 2;
constexpr uint32_t kListedOfFew = 24;

template <typename T>
__global__ void __launch_bounds__(kWarps* kWarp, sizeof(T) == 2 ? 2 : 1)
    add_moments(MomentsParams params, const MomentsLayout layout) {
  const Buckets& sources = params.sources;
  const unsigned head_index = blockIdx.x / layout.blocks_a_head;
  const int first_column = static_cast<int>(blockIdx.x % layout.blocks_a_head) * kOwned, warp = threadIdx.x / kWarp;
  const int64_t first_index = int64_t{head_index} * sources.num_hash;
  bool any = false;
  for (int h = threadIdx.x; h < sources.num_hash; h += blockDim.x) any |= sources.crowded_count[first_index + h] > 0;
  if (!__syncthreads_or(any)) return;

  const int64_t num_target = params.targets.num_key, stride = float_row(params.direction_dim);
  const unsigned global_head = static_cast<unsigned>(params.first_head) + head_index;
  float* out = params.out + head_index * num_target * stride;
  for (int64_t i = threadIdx.x; i < num_target * kOwned; i += blockDim.x) {
    const int64_t column = first_column + i % kOwned;
    if (column < stride) out[i / kOwned * stride + column] = 0;
  }
  __syncthreads();
  Work<T> work{params,
               layout,
               head_rows<T>(params.own, global_head, params.heads_per_batch),
               head_rows<T>(params.partner, global_head, params.heads_per_batch),
               head_rows<T>(params.direction, global_head, params.heads_per_batch),
               out,
               dynamic_shared<Tile<T>>() + warp * 2,
               first_column};
#pragma unroll 1
  for (int hash = 0; hash < sources.num_hash; ++hash) {
    const int64_t index = first_index + hash;
    const uint32_t count = sources.crowded_count[index];
    for (uint32_t b = warp; b < count; b += kWarps) {
      const uint2 found = sources.crowded[index * sources.crowded_capacity + b];
      work.sources = {sources.ids + index * sources.num_key + found.x, found.y};
      work.targets = looked_up(params.targets, index, work.sources.ids[0], &work.stages->lone);
      for (int partner = 0; work.targets.size > 0 && partner < params.partner_dim; partner += kPartner) {
        work.add(partner);
      }
    }
    if (count > 0) __syncthreads();
  }
}

int64_t blocks_of(int64_t direction_dim) { return (direction_dim + kOwned - 1) / kOwned; }

}  // namespace

uint32_t most_listed(int64_t heads, const BucketSizes& sizes, int64_t partner_dim, int64_t direction_dim, Dtype dtype) {
  int device = 0, multiprocessors = 132;
  if (cudaGetDevice(&device) == cudaSuccess) {
    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  const int64_t bytes = (partner_dim + direction_dim) * (dtype == Dtype::kFloat32 ? 4 : 2);
  const double pair = 47e-12 * static_cast<double>(bytes) / 256 * 132 / multiprocessors;
  const int64_t blocks = std::min(heads * blocks_of(direction_dim), int64_t{2} * multiprocessors);
  const double at_once = static_cast<double>(kWarps * blocks) / static_cast<double>(blocks_of(direction_dim));
  const auto parts = static_cast<double>((partner_dim + kPartner - 1) / kPartner);
  // Where buckets are small, larger ones are few, and a pass over them costs more than their pairs do.
  const bool few = std::max(sizes.num_query, sizes.num_key) >> sizes.hash_code_len <= kFewTokens;
  uint32_t size = few ? kListedOfFew : kFewestListed;
  while (size < kMostListed && size * size * pair < parts * (4.2e-6 + 0.5e-6 / 8 * size) / at_once) ++size;
  return size;
}

cudaError_t launch_moments(const MomentsParams& params, cudaStream_t stream) {
  if (params.sources.crowded_capacity == 0) return cudaSuccess;
  const int64_t blocks_a_head = blocks_of(params.direction_dim);
  const MomentsLayout layout{static_cast<unsigned>(blocks_a_head),
                             in_vectors(params.own, params.partner_dim, params.dtype),
                             in_vectors(params.partner, params.partner_dim, params.dtype),
                             in_vectors(params.direction, params.direction_dim, params.dtype)};
  return with_dtype(params.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(add_moments<T>, dim3(static_cast<unsigned>(params.heads * blocks_a_head)), dim3(kWarps * kWarp),
                  kWarps * 2 * sizeof(Tile<T>), stream, params, layout);
  });
}

}  // namespace yoso::cuda
