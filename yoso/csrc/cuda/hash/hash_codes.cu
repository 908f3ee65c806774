// Codes of all families: the signs of a matrix product, on the tensor cores.
//
// A sign does not change when a vector or a direction is multiplied by a positive number. So each is scaled by a power
// of two (hash_rows.cuh) and taken as float16 numbers: a direction as one, exactly, or two (hash_directions.h), a
// float32 vector as two, a 16-bit vector as one. With small * small left out, a projection is off by at most 2^-20 of
// the two lengths. The tensor cores' sums, in float32 and truncated, add 2^-22 a step of 16 columns, 16 steps at most:
// small products go first.
//
// Eight columns of a product are one bit of eight hashes, its 16 rows are vectors: a lane meets the bits of its codes
// one product after the other and shifts them into registers. The warps of a block read directions from shared memory,
// where they arrive in stages, two of them under way while one is used.
#include "hash_directions.h"
#include "hash_rows.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kSlots = 3;
constexpr int kStage = 256;                        // of 16 bytes, or one product
constexpr int kPairQuads = kPairHalves / 8;        // of 16 bytes: one a lane
constexpr int64_t kMostBytes = int64_t{32} << 20;  // of directions at once: they stay in the second-level cache

static_assert(kPairQuads == kWarp);

// A warp with few tiles has two sums a tile, so that products need not wait for each other.
template <int kTiles>
constexpr int kSums = kTiles < 4 ? 2 : 1;

// `directions`: this lane's quads, of one part.
template <int kPairs, int kTiles>
__device__ inline void project(const FragmentA (&vectors)[kTiles][2 * kPairs], const uint4* directions,
                               Accumulator (&sums)[kSums<kTiles>][kTiles]) {
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    const uint4 quad = directions[pair * kPairQuads];
    const FragmentB first = {{quad.x, quad.y}}, second = {{quad.z, quad.w}};
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      multiply_add(sums[0][tile], vectors[tile][2 * pair], first, __half());
    }
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      multiply_add(sums[kSums<kTiles> - 1][tile], vectors[tile][2 * pair + 1], second, __half());
    }
  }
}

// A lane's codes: of 2 kTiles neighbouring vectors and two hashes.
template <int kTiles>
struct Codes {
  uint32_t words[2][2 * kTiles] = {};

  // A sum that is 0 is +0, as sums of opposite numbers are and those that start with +0; NaN has no sign bit.
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

// Quads of 16 bytes on their way through shared memory, kQuads at a time, for the whole block.
template <int kQuads>
class Stages {
 public:
  using Slots = uint4[kSlots][kQuads];

  // left: quads from `from` on.
  __device__ Stages(Slots& slots, const uint4* from, int left) : slots_(slots), next_(from + threadIdx.x), slot_(0) {
    for (int i = 0; i < kSlots - 1; ++i) fill(i, left - i * kQuads);
  }

  // The next stage, which is the first of `left` quads. The block is then done with the last one, whose place is filled
  // anew.
  __device__ const uint4* take(int left) {
    wait_for_older_copies();
    __syncthreads();
    const int taken = slot_;
    fill(taken == 0 ? kSlots - 1 : taken - 1, left - (kSlots - 1) * kQuads);
    slot_ = taken == kSlots - 1 ? 0 : taken + 1;
    return slots_[taken];
  }

 private:
  __device__ void fill(int slot, int left) {
    const int thread = threadIdx.x;
#pragma unroll
    for (int i = 0; i < kQuads; i += kThreads) copy_async(&slots_[slot][thread + i], next_ + i, thread + i < left);
    end_copy_group();
    next_ += kQuads;
  }

  Slots& slots_;
  const uint4* next_;
  int slot_;
};

// Of 64 registers of fragments or fewer there is room for four warps a scheduler: what one loads and shifts hides
// behind the others' products.
template <int kPairs, int kTiles, int kParts, typename T>
__global__ void __launch_bounds__(kThreads, kPairs * kTiles * sizeof(T) <= 16 ? 4 : 2)
    codes_kernel(HashParams p, Directions d, uint32_t blocks_per_head) {
  constexpr int kVectors = 2 * kTiles, kPartQuads = kPairs * kPairQuads, kProductQuads = kParts * kPartQuads;
  constexpr int kStageQuads = kProductQuads < kStage ? kStage / kProductQuads * kProductQuads : kProductQuads;
  __shared__ typename Stages<kStageQuads>::Slots slots;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, row = lane / 4, quarter = lane % 4;
  const uint32_t index = blockIdx.x / blocks_per_head, block = blockIdx.x % blocks_per_head;
  const uint32_t group = index % d.groups, head = index / d.groups * p.groups + d.first_group + group;
  const int64_t first = ((int64_t{block} * kWarps + warp) * 8 + row) * kVectors, left = p.length - first;
  const int rows = left < kVectors ? static_cast<int>(max(left, int64_t{0})) : kVectors;
  const int most = __any_sync(kWholeWarp, rows > 0) ? kStageQuads : 0;  // a warp without rows copies its share only
  const bool whole = rows == kVectors && p.length % kVectors == 0;
  uint16_t* codes = p.codes + (int64_t{head} * p.num_hash + quarter * 2) * p.length + first;

  Stages<kStageQuads> stages(slots, reinterpret_cast<const uint4*>(d.halves + group * d.group_halves()),
                             d.products * kProductQuads);
  Vectors<kPairs, kTiles, T> vectors;
  vectors.load(p, head, first, rows);
  Codes<kTiles> found;
  int hash = quarter * 2, bits = p.hash_code_len;  // that the codes still lack
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
      found.push(sums);
      if (--bits > 0) continue;
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        if (hash + i < p.num_hash) found.store(codes + i * p.length, i, rows, whole);
      }
      bits = p.hash_code_len, hash += kHashes, codes += kHashes * p.length;
      found = {};
    }
  }
  wait_for_copies();
}

template <int kPairs, int kTiles, int kParts, typename T>
cudaError_t launch_shape(const HashParams& p, const Directions& d, cudaStream_t stream) {
  constexpr int kVectors = kWarps * 16 * kTiles;
  const auto blocks_per_head = static_cast<uint32_t>((p.length + kVectors - 1) / kVectors);
  return launch(codes_kernel<kPairs, kTiles, kParts, T>, dim3(p.num_heads / p.groups * d.groups * blocks_per_head),
                dim3(kThreads), 0, stream, p, d, blocks_per_head);
}

// As many tiles as leave registers for a vector's fragments: 64 of them, 128 at 256 columns of float32.
template <int kParts, typename T>
cudaError_t launch_parts(const HashParams& p, const Directions& d, cudaStream_t stream) {
  constexpr int kScale = std::is_same_v<T, float> ? 2 : 1;
  if (d.pairs == 1) return launch_shape<1, 4, kParts, T>(p, d, stream);
  if (d.pairs == 2) return launch_shape<2, 4 / kScale, kParts, T>(p, d, stream);
  if (d.pairs == 4) return launch_shape<4, 2 / kScale, kParts, T>(p, d, stream);
  return launch_shape<8, 1, kParts, T>(p, d, stream);
}

Directions layout_of(const HashParams& p) {
  Directions d{};
  d.products = (p.num_hash + kHashes - 1) / kHashes * p.hash_code_len;
  d.pairs = p.dim <= 32 ? 1 : p.dim <= 64 ? 2 : p.dim <= 128 ? 4 : 8;
  d.parts = p.family == HashFamily::kGaussian ? 2 : 1;
  const int64_t fit = kMostBytes / (d.group_halves() * static_cast<int64_t>(sizeof(__half)));
  d.groups = fit < p.groups ? static_cast<uint32_t>(fit) : p.groups;  // a group takes 16 MiB at most
  return d;
}

}  // namespace

int64_t hash_workspace_bytes(const HashParams& p) {
  const Directions d = layout_of(p);
  return d.groups * d.group_halves() * static_cast<int64_t>(sizeof(__half));
}

cudaError_t launch_hash(const HashParams& p, void* workspace, cudaStream_t stream) {
  Directions d = layout_of(p);
  d.halves = static_cast<__half*>(workspace);
  for (const uint32_t at_once = d.groups; d.first_group < p.groups; d.first_group += at_once) {
    if (p.groups - d.first_group < at_once) d.groups = p.groups - d.first_group;
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
