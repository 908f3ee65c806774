// The codes of all hash families are the signs of a matrix product of vectors and directions, on the tensor cores.
//
// A sign does not change when a vector or a direction is multiplied by a positive number. So each is scaled by a power
// of two (hash_rows.cuh) and represented by float16 numbers: a direction by one, exactly, or two (hash_directions.h), a
// float32 vector by two, a 16-bit vector by one. With small * small left out, the error of a projection is at most
// 2^-20 of the product of the two lengths. The tensor cores add in float32 with truncation, which adds an error of
// 2^-22 per step of 16 columns, for at most 16 steps; small products are added first.
//
// The 16 rows of a product are vectors, and its eight columns are one bit of eight hashes. A lane gets the bits of its
// codes one product after the other and shifts them into registers. The warps of a CTA read directions from shared
// memory, which a pipeline of three stages fills (Stages).
#include "hash_directions.h"
#include "hash_rows.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kStages = 3;
constexpr int kStageTargetQuads = 256;             // of 16 bytes: the size of a stage, unless one product is larger
constexpr int kPairQuads = kPairHalves / 8;        // one quad per lane
constexpr int64_t kMostBytes = int64_t{32} << 20;  // of directions at once, so that they stay in the L2 cache

static_assert(kPairQuads == kWarp);

// A warp with few tiles keeps two sums per tile, so that consecutive products do not depend on each other.
template <int kTiles>
constexpr int kSums = kTiles < 4 ? 2 : 1;

// Adds the products of the vectors and one part of the directions. `directions` points to this lane's first quad.
template <int kPairs, int kTiles>
__device__ inline void project(const FragmentA (&vectors)[kTiles][2 * kPairs], const uint4* directions,
                               Accumulator (&sums)[kSums<kTiles>][kTiles]) {
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    const uint4 quad = directions[pair * kPairQuads];
    const FragmentB first = {{quad.x, quad.y}}, second = {{quad.z, quad.w}};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      mma(sums[0][tile], vectors[tile][2 * pair], first, __half());
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      mma(sums[kSums<kTiles> - 1][tile], vectors[tile][2 * pair + 1], second, __half());
    }
  }
}

// A lane's codes: of 2 * kTiles consecutive vectors and two hashes.
template <int kTiles>
struct Codes {
  uint32_t words[2][2 * kTiles] = {};

  // Appends a bit to every code: the sign bit of the projection. A projection of 0 gives 0, because sums of opposite
  // numbers, and sums that start with +0, are +0. NaN gives 0, because a NaN that the device computes has no sign bit.
  __device__ void push(const Accumulator (&sums)[kSums<kTiles>][kTiles]) {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float projection = sums[0][tile].x[i];
        if constexpr (kSums<kTiles> == 2) projection += sums[1][tile].x[i];
        uint32_t& word = words[i % 2][2 * tile + i / 2];
        word = __funnelshift_l(float_bits(projection), word, 1);
      }
    }
  }

  __device__ void store(uint16_t* codes, int hash, int rows, bool whole) const {
    if (whole) {
      uint32_t both[kTiles];
#pragma unroll
      for (int i = 0; i < kTiles; ++i) both[i] = __byte_perm(words[hash][2 * i], words[hash][2 * i + 1], 0x5410);
      if constexpr (kTiles == 4) {
        *reinterpret_cast<uint4*>(codes) = {both[0], both[1], both[2], both[3]};
      } else if constexpr (kTiles == 2) {
        *reinterpret_cast<uint2*>(codes) = {both[0], both[1]};
      } else {
        *reinterpret_cast<uint32_t*>(codes) = both[0];
      }
      return;
    }
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      if (i < rows) codes[i] = static_cast<uint16_t>(words[hash][i]);
    }
  }
};

// A pipeline for the whole CTA that copies an array of 16-byte quads through shared memory, kQuads quads per stage. The
// i-th block of kQuads quads is in stage i % kStages. Two blocks are in flight while the CTA works on one.
//
// Protocol. Every fill commits one cp.async group, an empty one beyond the end of the array:
//
//   step               groups committed after it   what it guarantees
//   constructor        kStagesAhead                blocks 0 ... kStagesAhead - 1 are on their way
//   i-th take(): wait                              at most kGroupsInFlight groups are pending: blocks 0 ... i are here
//     barrier                                      every thread sees block i, and has finished block i - 1
//     fill             kStagesAhead + i + 1        block i + kStagesAhead is on its way, in the stage of block i - 1
template <int kQuads>
class Stages {
  static constexpr int kStagesAhead = kStages - 1;
  static constexpr int kGroupsInFlight = kStagesAhead - 1;  // at the wait, groups newer than the block that is taken
  static_assert(kGroupsInFlight >= 0);

 public:
  using Slots = uint4[kStages][kQuads];

  // left: the number of quads from `from` on.
  __device__ Stages(Slots& slots, const uint4* from, int left) : slots_(slots), next_(from + threadIdx.x), slot_(0) {
    for (int i = 0; i < kStagesAhead; ++i) fill(i, left - i * kQuads);
  }

  // Returns the next stage, of whose quads `left` are real. The stage that the last call returned is overwritten.
  __device__ const uint4* take(int left) {
    wait_for_copy_groups<kGroupsInFlight>();
    __syncthreads();
    const int taken = slot_;
    fill(taken == 0 ? kStages - 1 : taken - 1, left - kStagesAhead * kQuads);
    slot_ = taken == kStages - 1 ? 0 : taken + 1;
    return slots_[taken];
  }

 private:
  __device__ void fill(int slot, int left) {
    const int thread = threadIdx.x;
#pragma unroll
    for (int i = 0; i < kQuads; i += kThreads) copy_async(&slots_[slot][thread + i], next_ + i, thread + i < left);
    commit_copy_group();
    next_ += kQuads;
  }

  Slots& slots_;
  const uint4* next_;
  int slot_;
};

// Shapes with at most 64 registers of fragments leave room for four warps per scheduler, so that one warp's loads and
// shifts overlap with the others' products.
template <int kPairs, int kTiles, int kParts, typename T>
__global__ void __launch_bounds__(kThreads, kPairs * kTiles * sizeof(T) <= 16 ? 4 : 2)
    codes_kernel(HashParams p, Directions d, uint32_t ctas_per_head) {
  constexpr int kVectors = 2 * kTiles, kPartQuads = kPairs * kPairQuads, kProductQuads = kParts * kPartQuads;
  constexpr int kStageQuads =
      kProductQuads < kStageTargetQuads ? kStageTargetQuads / kProductQuads * kProductQuads : kProductQuads;
  __shared__ typename Stages<kStageQuads>::Slots slots;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, row = lane / 4, quarter = lane % 4;
  const uint32_t index = blockIdx.x / ctas_per_head, cta = blockIdx.x % ctas_per_head;
  const uint32_t group = index % d.groups, head = index / d.groups * p.groups + d.first_group + group;
  const int64_t first = ((int64_t{cta} * kWarps + warp) * 8 + row) * kVectors, left = p.length - first;
  const int rows = left < kVectors ? static_cast<int>(max(left, int64_t{0})) : kVectors;
  // A warp without rows only copies its share of the directions.
  const int most = __any_sync(kWholeWarp, rows > 0) ? kStageQuads : 0;
  const bool whole = rows == kVectors && p.length % kVectors == 0;
  uint16_t* codes = p.codes + (int64_t{head} * p.num_hash + quarter * 2) * p.length + first;

  Stages<kStageQuads> stages(slots, reinterpret_cast<const uint4*>(d.halves + group * d.group_halves()),
                             d.products * kProductQuads);
  Vectors<kPairs, kTiles, T> vectors;
  vectors.load(p, head, first, rows);
  Codes<kTiles> lane_codes;
  int hash = quarter * 2, missing_bits = p.hash_code_len;
  for (int quads = d.products * kProductQuads; quads > 0; quads -= kStageQuads) {
    const uint4* quad = stages.take(quads) + lane;
    const uint4* end = quad + min(quads, most);
#pragma unroll 1
    for (; quad < end; quad += kProductQuads) {
      Accumulator sums[kSums<kTiles>][kTiles] = {};
      const uint4* big = quad + (kParts - 1) * kPartQuads;
      if constexpr (kParts == 2) project<kPairs, kTiles>(vectors.big, quad, sums);
      if constexpr (Vectors<kPairs, kTiles, T>::kSplit) project<kPairs, kTiles>(vectors.small, big, sums);
      project<kPairs, kTiles>(vectors.big, big, sums);
      lane_codes.push(sums);
      if (--missing_bits > 0) continue;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (hash + i < p.num_hash) lane_codes.store(codes + i * p.length, i, rows, whole);
      }
      missing_bits = p.hash_code_len, hash += kHashes, codes += kHashes * p.length;
      lane_codes = {};
    }
  }
  wait_for_all_copies();
}

template <int kPairs, int kTiles, int kParts, typename T>
cudaError_t launch_shape(const HashParams& p, const Directions& d, cudaStream_t stream) {
  constexpr int kVectors = kWarps * 16 * kTiles;
  const auto ctas_per_head = static_cast<uint32_t>((p.length + kVectors - 1) / kVectors);
  return launch(codes_kernel<kPairs, kTiles, kParts, T>, dim3(p.num_heads / p.groups * d.groups * ctas_per_head),
                dim3(kThreads), 0, stream, p, d, ctas_per_head);
}

// As many tiles as registers allow: fragments take 64 registers, or 128 for float32 with 256 columns.
template <int kParts, typename T>
cudaError_t launch_parts(const HashParams& p, const Directions& d, cudaStream_t stream) {
  constexpr int kScale = std::is_same_v<T, float> ? 2 : 1;
  if (d.pairs == 1) return launch_shape<1, 4, kParts, T>(p, d, stream);
  if (d.pairs == 2) return launch_shape<2, 4 / kScale, kParts, T>(p, d, stream);
  if (d.pairs == 4) return launch_shape<4, 2 / kScale, kParts, T>(p, d, stream);
  return launch_shape<8, 1, kParts, T>(p, d, stream);
}

Directions directions_of(const HashParams& p) {
  Directions d{};
  d.products = (p.num_hash + kHashes - 1) / kHashes * p.hash_code_len;
  d.pairs = p.dim <= 32 ? 1 : p.dim <= 64 ? 2 : p.dim <= 128 ? 4 : 8;
  d.parts = p.family == HashFamily::kGaussian ? 2 : 1;
  const int64_t fit = kMostBytes / (d.group_halves() * static_cast<int64_t>(sizeof(__half)));
  d.groups = fit < p.groups ? static_cast<uint32_t>(fit) : p.groups;  // one group takes at most 16 MiB
  return d;
}

}  // namespace

int64_t hash_workspace_bytes(const HashParams& p) {
  const Directions d = directions_of(p);
  return d.groups * d.group_halves() * static_cast<int64_t>(sizeof(__half));
}

cudaError_t launch_hash(const HashParams& p, void* workspace, cudaStream_t stream) {
  Directions d = directions_of(p);
  d.halves = static_cast<__half*>(workspace);
  for (const uint32_t groups_at_once = d.groups; d.first_group < p.groups; d.first_group += groups_at_once) {
    if (p.groups - d.first_group < groups_at_once) d.groups = p.groups - d.first_group;
    cudaError_t error = launch_directions(p, d, stream);
    if (error != cudaSuccess) return error;
    error = with_dtype(p.dtype, [&](auto* null) {
      using T = std::remove_pointer_t<decltype(null)>;
      return d.parts == 1 ? launch_parts<1, T>(p, d, stream) : launch_parts<2, T>(p, d, stream);
    });
    if (error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace yoso::cuda
