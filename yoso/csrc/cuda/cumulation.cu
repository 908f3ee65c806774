// Query-centred: a group of lanes holds one output row in registers and adds the value rows of the keys that its codes
// name. Crowded buckets are summed first, once for all their queries.
#include <type_traits>

#include "cumulation.h"
#include "cumulation_neighbours.cuh"
#include "cumulation_rows.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 8;   // of a block
constexpr int kAtOnce = 4;  // rows under way in a group
static_assert(kWindow % kAtOnce == 0 && kAtOnce == 4, "a list is read in vectors of kAtOnce ids");

// x += the rows of value that the first `count` ids name; ids may be read up to the next multiple of kAtOnce.
template <typename Layout>
__device__ void add_rows(const typename Layout::T* value, const CumulationParams& params, uint4 ids, int wanted,
                         float* x) {
  const uint32_t id[kAtOnce] = {ids.x, ids.y, ids.z, ids.w};
  RowPart<Layout> rows[kAtOnce];
#pragma unroll
  for (int u = 0; u < kAtOnce; ++u) {
    rows[u].load(value + id[u] * params.value.stride_row, static_cast<int>(params.columns), u < wanted);
  }
#pragma unroll
  for (int u = 0; u < kAtOnce; ++u) {
    float row[Layout::kFloats];
    rows[u].floats(row);
#pragma unroll
    for (int c = 0; c < Layout::kFloats; ++c) x[c] += row[c];
  }
}

// x += this lane's part of a row of crowded_sums.
template <typename Layout>
__device__ void add_sums(const float* row, int columns, float* x) {
#pragma unroll
  for (int v = 0; v < Layout::kVecs; ++v) {
    if (Layout::column(v) >= columns) continue;
    const float* from = row + Layout::column(v);
    float* to = x + v * Layout::kVec;
    if constexpr (Layout::kVec == 1) {
      *to += *from;
    } else {
#pragma unroll
      for (int c = 0; c < Layout::kVec; c += 4) {
        const float4 sums = *reinterpret_cast<const float4*>(from + c);
        to[c] += sums.x;
        to[c + 1] += sums.y;
        to[c + 2] += sums.z;
        to[c + 3] += sums.w;
      }
    }
  }
}

// One warp a crowded bucket; its groups take every kGroups-th key and add up in a fixed tree.
template <typename Layout>
__global__ void __launch_bounds__(kWarps* kWarp)
    sum_crowded(CumulationParams params, int64_t row_floats, unsigned parts) {
  const Buckets& buckets = params.buckets;
  const unsigned index = blockIdx.x / parts, part = blockIdx.x % parts;
  const int warp = threadIdx.x / kWarp, group = threadIdx.x % kWarp / Layout::kLanes;
  const int columns = static_cast<int>(params.columns);
  const unsigned head = static_cast<unsigned>(params.first_head) + index / buckets.num_hash;
  const auto* value = head_rows<typename Layout::T>(params.value, head, params.heads_per_batch);
  // Addresses are made anew for each bucket: few registers live through the loop.
  for (uint32_t b = part * kWarps + warp; b < buckets.crowded_count[index]; b += parts * kWarps) {
    const int64_t place = index * buckets.crowded_capacity + b;
    const uint2 bucket = buckets.crowded[place];
    const uint32_t* ids = buckets.ids + index * buckets.num_key + bucket.x;
    float x[Layout::kFloats] = {};
    for (uint32_t k = group; k < bucket.y; k += kAtOnce * Layout::kGroups) {
      const int wanted = static_cast<int>(min((bucket.y - k + Layout::kGroups - 1) / Layout::kGroups, 1u * kAtOnce));
      uint32_t id[kAtOnce] = {};
#pragma unroll
      for (int u = 0; u < kAtOnce; ++u) {
        if (u < wanted) id[u] = ids[k + u * Layout::kGroups];
      }
      add_rows<Layout>(value, params, make_uint4(id[0], id[1], id[2], id[3]), wanted, x);
    }
    __syncwarp();
#pragma unroll
    for (int step = Layout::kLanes; step < kWarp; step *= 2) {
#pragma unroll
      for (int c = 0; c < Layout::kFloats; ++c) x[c] += __shfl_xor_sync(kWholeWarp, x[c], step);
    }
    float* row = params.crowded_sums + place * row_floats;
#pragma unroll
    for (int v = 0; v < Layout::kVecs; ++v) {
      if (group != 0 || Layout::column(v) >= columns) continue;
#pragma unroll
      for (int c = 0; c < Layout::kVec; ++c) row[Layout::column(v) + c] = x[v * Layout::kVec + c];
    }
  }
}

template <typename Layout>
__global__ void __launch_bounds__(kWarps* kWarp, Layout::kVec == 1 ? 3 : 4)
    cumulate(CumulationParams params, int64_t row_floats, unsigned blocks_a_head) {
  __shared__ __align__(16) uint32_t lists[kWarps * Layout::kGroups][kWindow];
  const Buckets& buckets = params.buckets;
  const unsigned head = blockIdx.x / blocks_a_head, global_head = static_cast<unsigned>(params.first_head) + head;
  const int slot = threadIdx.x / Layout::kLanes, columns = static_cast<int>(params.columns);
  const int64_t query = int64_t{blockIdx.x % blocks_a_head} * (kWarps * Layout::kGroups) + slot;
  const auto* value = head_rows<typename Layout::T>(params.value, global_head, params.heads_per_batch);
  const bool wanted = query < buckets.num_query;
  float x[Layout::kFloats] = {};
  Neighbours<Layout::kLanes, CrowdedBuckets::kLeftOut> keys;
  for (int first_hash = 0; first_hash < buckets.num_hash; first_hash += keys.kHashes) {
    keys.find(buckets, head, query, first_hash, wanted);
    const uint32_t longest = largest_of_groups<Layout::kLanes>(keys.total);
    for (uint32_t from = 0; from < longest; from += kWindow) {
      keys.write(buckets, lists[slot], from);
      __syncwarp();
      const uint32_t length = keys.total > from ? min(keys.total - from, 1u * kWindow) : 0;
#pragma unroll 1
      for (uint32_t k = 0; k < length; k += kAtOnce) {
        const uint4 ids = *reinterpret_cast<const uint4*>(&lists[slot][k]);
        add_rows<Layout>(value, params, ids, static_cast<int>(length - k), x);
      }
      __syncwarp();
    }
#pragma unroll
    for (int r = 0; r < keys.kEach; ++r) {
      if (!__any_sync(kWholeWarp, keys.crowded(r))) continue;
      const int64_t first_index = int64_t{head} * buckets.num_hash + first_hash + r;
#pragma unroll 2
      for (int lane = 0; lane < Layout::kLanes; ++lane) {
        const uint32_t entry = __shfl_sync(kWholeWarp, keys.entries[r], lane, Layout::kLanes);
        const int64_t row = (first_index + lane * keys.kEach) * buckets.crowded_capacity + (entry >> kEntryShift);
        if ((entry & kCrowded) == kCrowded) add_sums<Layout>(params.crowded_sums + row * row_floats, columns, x);
      }
    }
  }
  if (!wanted) return;
  auto* out = static_cast<typename Layout::T*>(params.out);
  out += (global_head * buckets.num_query + query) * params.columns;
  store_row<Layout>(x, params.scale, out, columns);
}

template <typename Layout>
cudaError_t launch_in_layout(const CumulationParams& params, cudaStream_t stream) {
  const Buckets& buckets = params.buckets;
  const int64_t row_floats = crowded_row_floats(params.columns);
  if (buckets.crowded_capacity > 0) {
    // A block loops over its share: usually few buckets are crowded, and how many is known on the device only.
    constexpr int64_t kBucketsABlock = 32 * kWarps;
    const int64_t parts = (buckets.crowded_capacity + kBucketsABlock - 1) / kBucketsABlock;
    const int64_t blocks = params.heads * buckets.num_hash * parts;
    const cudaError_t error = launch(sum_crowded<Layout>, dim3(static_cast<unsigned>(blocks)), dim3(kWarps * kWarp), 0,
                                     stream, params, row_floats, static_cast<unsigned>(parts));
    if (error != cudaSuccess) return error;
  }
  constexpr int64_t kRowsABlock = kWarps * Layout::kGroups;
  const int64_t blocks_a_head = (buckets.num_query + kRowsABlock - 1) / kRowsABlock;
  return launch(cumulate<Layout>, dim3(static_cast<unsigned>(params.heads * blocks_a_head)), dim3(kWarps * kWarp), 0,
                stream, params, row_floats, static_cast<unsigned>(blocks_a_head));
}

}  // namespace

int64_t crowded_row_floats(int64_t columns) { return (columns + 3) / 4 * 4; }

cudaError_t launch_cumulation(const CumulationParams& params, cudaStream_t stream) {
  const bool vectors = in_vectors(params.value, params.columns, params.dtype);
  return with_dtype(params.dtype, [&](auto* type) {
    return with_layout<std::remove_pointer_t<decltype(type)>>(
        params.columns, vectors, [&](auto layout) { return launch_in_layout<decltype(layout)>(params, stream); });
  });
}

}  // namespace yoso::cuda
