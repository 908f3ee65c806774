// A CTA owns kOwnedColumns columns of one head's results and processes the hashes in order, so that each result is
// summed in one order without atomics. A warp takes one crowded bucket at a time. The tensor cores leave the transposed
// moment in the registers in which the product with the targets' rows needs it.
#include <algorithm>
#include <type_traits>

#include "moments_work.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;  // per CTA

template <typename T>
__global__ void __launch_bounds__(kWarps* kWarp, sizeof(T) == 2 ? 2 : 1)
    add_moments(MomentsParams params, const MomentsLayout layout) {
  const Buckets& sources = params.sources;
  const unsigned head = blockIdx.x / layout.ctas_per_head;
  const int first_column = static_cast<int>(blockIdx.x % layout.ctas_per_head) * kOwnedColumns;
  const int warp = threadIdx.x / kWarp;
  const int64_t first_index = int64_t{head} * sources.num_hash;
  bool any_crowded = false;
  for (int h = threadIdx.x; h < sources.num_hash; h += blockDim.x) {
    any_crowded |= sources.crowded_count[first_index + h] > 0;
  }
  if (!__syncthreads_or(any_crowded)) return;

  const int64_t num_target = params.targets.num_key, stride = float_row(params.direction_dim);
  const unsigned global_head = static_cast<unsigned>(params.first_head) + head;
  float* out = params.out + head * num_target * stride;
  for (int64_t i = threadIdx.x; i < num_target * kOwnedColumns; i += blockDim.x) {
    const int64_t column = first_column + i % kOwnedColumns;
    if (column < stride) out[i / kOwnedColumns * stride + column] = 0;
  }
  __syncthreads();
  BucketWork<T> work{params,
                     layout,
                     head_rows<T>(params.own, global_head, params.heads_per_batch),
                     head_rows<T>(params.partner, global_head, params.heads_per_batch),
                     head_rows<T>(params.direction, global_head, params.heads_per_batch),
                     out,
                     dynamic_shared<Tile<T>>() + warp * kStages,
                     first_column};
#pragma unroll 1
  for (int hash = 0; hash < sources.num_hash; ++hash) {
    const int64_t index = first_index + hash;
    const uint32_t count = sources.crowded_count[index];
    for (uint32_t b = warp; b < count; b += kWarps) {
      const uint2 bucket = sources.crowded[index * sources.crowded_capacity + b];
      work.sources = {sources.ids + index * sources.num_key + bucket.x, bucket.y};
      work.targets = look_up_bucket(params.targets, index, work.sources.ids[0], &work.stages->single_id);
      for (int partner = 0; work.targets.size > 0 && partner < params.partner_dim; partner += kPartnerColumns) {
        work.first_partner = partner;
        work.run();
      }
    }
    if (count > 0) __syncthreads();
  }
}

int64_t ctas_per_head(int64_t direction_dim) { return (direction_dim + kOwnedColumns - 1) / kOwnedColumns; }

// The cost model of most_listed: times measured on an H100, which has 132 SMs (NOTES.md).
constexpr double kSecondsPerPair = 47e-12;  // of rows of 256 bytes in all, visited by the whole device
constexpr double kSecondsPerBucket = 4.2e-6, kSecondsPerEightKeys = 0.5e-6;
// Where buckets hold this many tokens or fewer on average, larger ones are so few that a pass over them costs more than
// visiting their pairs: at least kFewestListedOfSmall are then listed.
constexpr int kSmallBucketTokens = 2;
constexpr uint32_t kFewestListedOfSmall = 24;

}  // namespace

uint32_t most_listed(int64_t heads, const BucketSizes& sizes, int64_t partner_dim, int64_t direction_dim, Dtype dtype) {
  int device = 0, multiprocessors = 132;
  if (cudaGetDevice(&device) == cudaSuccess) {
    cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  }
  const int64_t bytes = (partner_dim + direction_dim) * (dtype == Dtype::kFloat32 ? 4 : 2);
  const double pair_seconds = kSecondsPerPair * static_cast<double>(bytes) / 256 * 132 / multiprocessors;
  const int64_t resident_ctas = std::min(heads * ctas_per_head(direction_dim), int64_t{2} * multiprocessors);
  const double buckets_at_once =
      static_cast<double>(kWarps * resident_ctas) / static_cast<double>(ctas_per_head(direction_dim));
  const auto passes = static_cast<double>((partner_dim + kPartnerColumns - 1) / kPartnerColumns);
  const bool small = std::max(sizes.num_query, sizes.num_key) >> sizes.hash_code_len <= kSmallBucketTokens;
  uint32_t size = small ? kFewestListedOfSmall : kFewestListed;
  const auto visit_seconds = [&](uint32_t keys) { return keys * keys * pair_seconds; };
  const auto moment_seconds = [&](uint32_t keys) {
    return passes * (kSecondsPerBucket + kSecondsPerEightKeys / 8 * keys) / buckets_at_once;
  };
  while (size < kMostListed && visit_seconds(size) < moment_seconds(size)) ++size;
  return size;
}

cudaError_t launch_moments(const MomentsParams& params, cudaStream_t stream) {
  if (params.sources.crowded_capacity == 0) return cudaSuccess;
  const int64_t per_head = ctas_per_head(params.direction_dim);
  const MomentsLayout layout{static_cast<unsigned>(per_head), in_vectors(params.own, params.partner_dim, params.dtype),
                             in_vectors(params.partner, params.partner_dim, params.dtype),
                             in_vectors(params.direction, params.direction_dim, params.dtype)};
  return with_dtype(params.dtype, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    return launch(add_moments<T>, dim3(static_cast<unsigned>(params.heads * per_head)), dim3(kWarps * kWarp),
                  kWarps * kStages * sizeof(Tile<T>), stream, params, layout);
  });
}

}  // namespace yoso::cuda
