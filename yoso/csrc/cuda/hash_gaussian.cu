// hash_family "gaussian": the signs of a matrix product, on the tensor cores.
//
// A sign does not change when a vector or a direction is multiplied by a positive number. So each is scaled by a power
// of two that brings its largest entry to [1, 2), and split into float16 numbers: a direction into two (22 bits), a
// float32 vector into two, a 16-bit vector into one (exact, but for entries 2^-14 below the largest, within 2^-25 of
// it). With small * small left out, a projection is off by at most 2^-20 of the two lengths. The tensor cores' sums,
// in float32 and truncated, add 2^-22 a step of 16 columns, 16 steps at most: small products go first.
//
// Eight columns of a product are one bit of eight hashes, its 16 rows are vectors: a lane meets the bits of its codes
// one product after the other and collects them in registers. The order of columns within a product's k is free as
// long as both sides agree, so that a lane reads eight neighbours of a row at once.
#include <type_traits>

#include "hash_rows.cuh"
#include "mma.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kColumns = 32;  // a lane's 16 bytes of a row of halves, four lanes a row: two steps of the product
constexpr int kHashes = 8;    // of one product

int pairs_of(const HashParams& p) { return p.dim <= 32 ? 1 : p.dim <= 64 ? 2 : p.dim <= 128 ? 4 : 8; }
__host__ __device__ int hash_groups(const HashParams& p) { return (p.num_hash + kHashes - 1) / kHashes; }

// To bring the largest magnitude of a row to [1, 2): multiply by `first`, which lifts subnormal numbers, then `second`.
struct Scale {
  float first, second;

  __device__ explicit Scale(float largest) {
    first = largest < 0x1p-100f ? 0x1p100f : 1.0f;
    const int exponent = __float_as_uint(largest * first) >> 23 & 0xff;
    second = __uint_as_float(static_cast<uint32_t>(max(254 - exponent, 1)) << 23);
  }
  __device__ float operator()(float v) const { return v * first * second; }
};

__device__ inline float rest(float v) { return v - __half2float(__float2half_rn(v)); }

// A warp a direction. Directions [groups][m tau][dim] become, group by group, for each eight hashes, bit and 32 columns
// the small and then the big parts, [8 hashes][32 columns].
__global__ void __launch_bounds__(kWarps* kWarp)
    split_directions_kernel(HashParams p, int pairs, uint32_t rows, __half* parts) {
  constexpr int kMaxPairs = 8;
  const int lane = threadIdx.x % kWarp;
  const uint32_t row = blockIdx.x * kWarps + threadIdx.x / kWarp;
  if (row >= rows) return;
  const uint32_t tau = p.hash_code_len, hashes = hash_groups(p) * kHashes;
  const uint32_t bit = row % tau, hash = row / tau % hashes;
  const int64_t group = row / (tau * hashes);
  const bool real = hash < static_cast<uint32_t>(p.num_hash);
  const float* direction = static_cast<const float*>(p.planes) + (group * p.plane_rows + hash * tau + bit) * p.dim;
  float v[kMaxPairs], largest = 0;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    const int c = i * kColumns + lane;
    v[i] = real && c < p.dim ? direction[c] : 0.0f;
    largest = fmaxf(largest, fabsf(v[i]));
  }
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, other));
  }
  const Scale scale(largest);
  __half* to = parts + ((group * hashes + hash / kHashes * kHashes) * tau + bit * kHashes) * pairs * 2 * kColumns +
               hash % kHashes * kColumns + lane;
#pragma unroll
  for (int i = 0; i < kMaxPairs; ++i) {
    if (i >= pairs) break;
    const float scaled = scale(v[i]);
    to[2 * i * kHashes * kColumns] = __float2half_rn(rest(scaled));
    to[(2 * i + 1) * kHashes * kColumns] = __float2half_rn(scaled);
  }
}

// kPairs pairs of steps cover dim; a warp takes 16 kTiles vectors, 2 kTiles neighbours a row of its fragments.
template <int kPairs, int kTiles, typename T>
struct Vectors {
  static constexpr bool kSplit = std::is_same_v<T, float>;
  FragmentA big[kTiles][2 * kPairs], small[kSplit ? kTiles : 1][kSplit ? 2 * kPairs : 1];

  __device__ void load(const HashParams& p, uint32_t head, int64_t first) {
    const int quarter = threadIdx.x % 4;
    const T* x = static_cast<const T*>(p.x.data) + p.head_offset(head);
#pragma unroll
    for (int i = 0; i < 2 * kTiles; ++i) {
      float v[kPairs][8], largest = 0;
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
        load_columns(x + (first + i) * p.x.stride_row, pair * kColumns + quarter * 8, first + i < p.length ? p.dim : 0,
                     p.aligned, v[pair]);
#pragma unroll
        for (int c = 0; c < 8; ++c) largest = fmaxf(largest, fabsf(v[pair][c]));
      }
      largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 1));
      largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 2));
      const Scale scale(largest);
#pragma unroll
      for (int pair = 0; pair < kPairs; ++pair) {
#pragma unroll
        for (int c = 0; c < 8; c += 2) {
          const float low = scale(v[pair][c]), high = scale(v[pair][c + 1]);
          const int step = 2 * pair + c / 4, word = c / 2 % 2 * 2 + i % 2;
          big[i / 2][step].x[word] = pack(low, high, __half());
          if constexpr (kSplit) small[i / 2][step].x[word] = pack(rest(low), rest(high), __half());
        }
      }
    }
  }
};

template <int kPairs>
__device__ inline void load_directions(const __half* part, uint4 (&directions)[kPairs]) {
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    directions[pair] = __ldg(reinterpret_cast<const uint4*>(part + pair * 2 * kHashes * kColumns));
  }
}

// A warp with few tiles has two sums a tile, so that products need not wait for each other.
template <int kTiles>
constexpr int kSums = kTiles < 4 ? 2 : 1;

template <int kPairs, int kTiles>
__device__ inline void project(const FragmentA (&vectors)[kTiles][2 * kPairs], const uint4 (&directions)[kPairs],
                               Accumulator (&sums)[kSums<kTiles>][kTiles]) {
#pragma unroll
  for (int pair = 0; pair < kPairs; ++pair) {
    const FragmentB first = {{directions[pair].x, directions[pair].y}};
    const FragmentB second = {{directions[pair].z, directions[pair].w}};
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

// words: 2 kTiles neighbouring codes of one hash.
template <int kTiles>
__device__ inline void store_codes(uint16_t* codes, int64_t left, bool whole, const uint32_t (&words)[kTiles]) {
  if (whole) {
    auto* to = reinterpret_cast<uint32_t*>(codes);
    if constexpr (kTiles == 4) {
      *reinterpret_cast<uint4*>(to) = {words[0], words[1], words[2], words[3]};
    } else if constexpr (kTiles == 2) {
      *reinterpret_cast<uint2*>(to) = {words[0], words[1]};
    } else {
      *to = words[0];
    }
    return;
  }
#pragma unroll
  for (int i = 0; i < 2 * kTiles; ++i) {
    if (i < left) codes[i] = static_cast<uint16_t>(words[i / 2] >> (i % 2 * 16));
  }
}

template <int kPairs, int kTiles, typename T>
__global__ void __launch_bounds__(kWarps* kWarp, 2)
    hash_gaussian_kernel(HashParams p, uint32_t blocks_per_head, const __half* parts) {
  constexpr int kVectors = 2 * kTiles, kProduct = kPairs * 2 * kHashes * kColumns;
  const int warp = threadIdx.x / kWarp, row = threadIdx.x % kWarp / 4, quarter = threadIdx.x % 4;
  const uint32_t head = blockIdx.x / blocks_per_head, block = blockIdx.x % blocks_per_head;
  const int64_t warps = blockDim.x / kWarp;
  const int64_t first = ((block * warps + warp) * 8 + row) * kVectors, left = p.length - first;
  const int groups = hash_groups(p), tau = p.hash_code_len;
  // Small parts of the next product and big ones of this one are under way while the others are used.
  const __half* part = parts + int64_t{head % p.groups} * groups * tau * kProduct + row * kColumns + quarter * 8;
  const __half* last = part + (int64_t{groups} * tau - 1) * kProduct;
  uint16_t* codes = p.codes + int64_t{head} * p.num_hash * p.length + first;
  const bool whole = left >= kVectors && p.length % kVectors == 0;

  Vectors<kPairs, kTiles, T> vectors;
  vectors.load(p, head, first);
  uint4 small[kPairs], big[kPairs];
  load_directions(part, small);
#pragma unroll 1
  for (int group = 0; group < groups; ++group) {
    uint32_t words[2][kTiles] = {};
#pragma unroll 1
    for (int bit = 0; bit < tau; ++bit) {
      Accumulator sums[kSums<kTiles>][kTiles] = {};
      load_directions(part + kHashes * kColumns, big);
      project<kPairs, kTiles>(vectors.big, small, sums);
      part = part < last ? part + kProduct : part;
      load_directions(part, small);
      if constexpr (Vectors<kPairs, kTiles, T>::kSplit) project<kPairs, kTiles>(vectors.small, big, sums);
      project<kPairs, kTiles>(vectors.big, big, sums);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float projection = sums[0][tile].x[i];
          if constexpr (kSums<kTiles> == 2) projection += sums[1][tile].x[i];
          if (projection > 0) words[i % 2][tile] |= (i < 2 ? 1u : 1u << 16) << bit;
        }
      }
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int64_t hash = int64_t{group} * kHashes + quarter * 2 + i;
      if (hash < p.num_hash && left > 0) store_codes<kTiles>(codes + hash * p.length, left, whole, words[i]);
    }
  }
}

template <int kPairs, int kTiles, typename T>
cudaError_t launch_shape(const HashParams& p, const __half* parts, cudaStream_t stream) {
  constexpr int kVectors = 16 * kTiles;
  const int64_t needed = (p.length + kVectors - 1) / kVectors, warps = needed < kWarps ? needed : kWarps;
  const auto blocks_per_head = static_cast<uint32_t>((needed + warps - 1) / warps);
  return launch(hash_gaussian_kernel<kPairs, kTiles, T>, dim3(p.num_heads * blocks_per_head),
                dim3(static_cast<unsigned>(warps * kWarp)), 0, stream, p, blocks_per_head, parts);
}

}  // namespace

int64_t hash_gaussian_workspace_bytes(const HashParams& p) {
  const int64_t rows = int64_t{p.groups} * hash_groups(p) * kHashes * p.hash_code_len;
  return rows * pairs_of(p) * 2 * kColumns * static_cast<int64_t>(sizeof(__half));
}

cudaError_t launch_hash_gaussian(const HashParams& p, void* workspace, cudaStream_t stream) {
  auto* parts = static_cast<__half*>(workspace);
  const int pairs = pairs_of(p);
  const uint32_t rows = p.groups * hash_groups(p) * kHashes * p.hash_code_len;
  const cudaError_t error = launch(split_directions_kernel, dim3((rows + kWarps - 1) / kWarps), dim3(kWarps * kWarp), 0,
                                   stream, p, pairs, rows, parts);
  if (error != cudaSuccess) return error;
  // As many tiles as leave registers for a vector's fragments: 64 of them, 128 at 256 columns of float32.
  return with_dtype(p.dtype, [&](auto* null) {
    using T = std::remove_pointer_t<decltype(null)>;
    constexpr int kScale = std::is_same_v<T, float> ? 2 : 1;
    if (pairs == 1) return launch_shape<1, 4, T>(p, parts, stream);
    if (pairs == 2) return launch_shape<2, 4 / kScale, T>(p, parts, stream);
    if (pairs == 4) return launch_shape<4, 2 / kScale, T>(p, parts, stream);
    return launch_shape<8, 1, T>(p, parts, stream);
  });
}

}  // namespace yoso::cuda
