// Turns planes into the directions of hash_directions.h.
//
// A bit of either Hadamard family is the sign of the projection on a row of H D'' H D' H D (yoso/ops/hashing.py). That
// row is computed here by two transforms of a row of H D''. Its entries are integers of magnitude at most dim^1.5,
// which is the length of every row. From dim = 4 on they are multiples of 4: the first transform turns a row of signs
// into numbers that are all 2 modulo 4 or all 0 modulo 4, and the second adds dim of those. A quarter of an entry is at
// most 1024, which float16 holds exactly.
//
// A Gaussian direction is scaled by a power of two and becomes two float16 numbers, 22 bits together.
//
// A lane has kOwn = 8 consecutive columns of a row, and `lanes` lanes have the row.
#include "hash_directions.h"
#include "hash_rows.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kOwn = 8;

// Which rows of the planes hold the signs of a direction, and its coordinate in the rotation.
struct Rotation {
  uint32_t first, second, last;  // rows of the planes
  uint32_t coordinate;

  __device__ Rotation(const HashParams& p, uint32_t hash, uint32_t bit) {
    const uint32_t dim = p.plane_dim, tau = p.hash_code_len;
    if (p.family == HashFamily::kHadamard) {
      first = 0, second = 1, last = 2 + hash / dim * tau + bit, coordinate = hash % dim;
    } else {
      const uint32_t codes = dim / tau;
      first = hash / codes * 3, second = first + 1, last = first + 2, coordinate = hash % codes * tau + bit;
    }
  }
};

// v becomes v H, the unnormalised Hadamard transform over the row's lanes.
__device__ inline void transform(float (&v)[kOwn], int lane, int lanes) {
#pragma unroll
  for (int half = 1; half < kOwn; half *= 2) {
#pragma unroll
    for (int c = 0; c < kOwn; ++c) {
      if (c & half) continue;
      const float low = v[c], high = v[c + half];
      v[c] = low + high, v[c + half] = low - high;
    }
  }
  for (int bit = 1; bit < lanes; bit *= 2) {
    const float sign = lane & bit ? -1.0f : 1.0f;
#pragma unroll
    for (float& x : v) x = fmaf(sign, x, __shfl_xor_sync(kWholeWarp, x, bit));
  }
}

__device__ inline uint4 halves_of(const float (&v)[kOwn]) {
  return {pack(v[0], v[1], __half()), pack(v[2], v[3], __half()), pack(v[4], v[5], __half()),
          pack(v[6], v[7], __half())};
}

// The signs of kOwn columns of three rows, 0 beyond the rotation's size. whole: kOwn signs can be read as one vector.
__device__ inline void load_signs(const int8_t* const (&rows)[3], int first, int dim, bool whole,
                                  float (&signs)[3][kOwn]) {
  alignas(8) int8_t bytes[3][kOwn] = {};
  if (!whole) {
#pragma unroll
    for (int i = 0; i < 3 * kOwn; ++i) {
      const int c = first + i % kOwn;
      if (c < dim) bytes[i / kOwn][i % kOwn] = rows[i / kOwn][c];
    }
  } else if (first < dim) {
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      *reinterpret_cast<uint2*>(bytes[i]) = *reinterpret_cast<const uint2*>(rows[i] + first);
    }
  }
#pragma unroll
  for (int i = 0; i < 3 * kOwn; ++i) signs[i / kOwn][i % kOwn] = static_cast<float>(bytes[i / kOwn][i % kOwn]);
}

__device__ inline void make_integers(const HashParams& p, int64_t group, const Rotation& rotation, int lane, int lanes,
                                     bool whole, float (&v)[kOwn]) {
  const int dim = p.plane_dim, column = lane * kOwn;
  const int8_t* plane = static_cast<const int8_t*>(p.planes) + group * p.plane_rows * dim;
  const int8_t* const rows[3] = {plane + int64_t{rotation.first} * dim, plane + int64_t{rotation.second} * dim,
                                 plane + int64_t{rotation.last} * dim};
  float signs[3][kOwn];
  load_signs(rows, column, dim, whole, signs);
  // The coordinate's row of H: one factor -1 for each bit that is set in both coordinate and column.
  float row[kOwn] = {__popc(rotation.coordinate & column) & 1 ? -1.0f : 1.0f};
#pragma unroll
  for (int c = 0; c < kOwn; ++c) {
    const int bit = c & -c;
    if (c > 0) row[c] = rotation.coordinate & bit ? -row[c - bit] : row[c - bit];
    v[c] = row[c] * signs[2][c];
  }
  transform(v, lane, lanes);
#pragma unroll
  for (int c = 0; c < kOwn; ++c) v[c] *= signs[1][c];
  transform(v, lane, lanes);
  const float unit = dim < 4 ? -1.0f : -0.25f;
#pragma unroll
  for (int c = 0; c < kOwn; ++c) v[c] *= unit * signs[0][c];
}

__device__ inline void load_gaussian(const HashParams& p, int64_t row, int lane, int lanes, float (&v)[kOwn]) {
  const float* direction = static_cast<const float*>(p.planes) + row * p.plane_dim;
#pragma unroll
  for (int c = 0; c < kOwn; ++c) v[c] = lane * kOwn + c < p.plane_dim ? direction[lane * kOwn + c] : 0.0f;
  float largest = largest_magnitude(0, v);
  for (int other = 1; other < lanes; other *= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, other));
  }
  const float scale = -scale_of(largest);
#pragma unroll
  for (float& x : v) x *= scale;
}

__global__ void __launch_bounds__(kWarps* kWarp) directions_kernel(HashParams p, Directions d, int lanes, bool whole) {
  const uint32_t row = (blockIdx.y * blockDim.x + threadIdx.x) / lanes, lane = threadIdx.x % lanes;
  if (row >= d.products * kHashes) return;  // true for all or no lanes of a warp, which has 1, 2, 4 or 8 rows
  const uint32_t product = row / kHashes, tau = p.hash_code_len;
  const uint32_t hash = product / tau * kHashes + row % kHashes, bit = tau - 1 - product % tau;
  const bool real = hash < static_cast<uint32_t>(p.num_hash);
  const uint32_t real_hash = real ? hash : 0;  // any valid hash: the shuffles need the whole warp
  const int64_t group = int64_t{d.first_group} + blockIdx.x;
  float v[kOwn];
  if (d.parts == 1) {
    make_integers(p, group, Rotation(p, real_hash, bit), lane, lanes, whole, v);
  } else {
    load_gaussian(p, group * p.plane_rows + real_hash * tau + bit, lane, lanes, v);
  }
  const uint32_t column = lane * kOwn;
  if (column >= d.pairs * kPairColumns) return;
  const uint32_t place = product * d.product_halves() + column / kPairColumns * kPairHalves +
                         row % kHashes * kPairColumns + column % kPairColumns;
  auto* out = reinterpret_cast<uint4*>(d.halves + blockIdx.x * d.group_halves()) + place / kOwn;
#pragma unroll
  for (float& x : v) x = real ? x : 0.0f;
  out[(d.parts - 1) * d.pairs * kPairHalves / kOwn] = halves_of(v);
  if (d.parts == 1) return;
#pragma unroll
  for (float& x : v) x = float16_error(x);
  *out = halves_of(v);
}

}  // namespace

cudaError_t launch_directions(const HashParams& p, const Directions& d, cudaStream_t stream) {
  const int columns = d.pairs * kPairColumns, width = d.parts == 1 && p.plane_dim > columns ? p.plane_dim : columns;
  const int lanes = width / kOwn, rows_per_cta = kWarps * kWarp / lanes;
  const bool whole = p.plane_dim % kOwn == 0 && reinterpret_cast<uintptr_t>(p.planes) % kOwn == 0;
  const auto ctas = static_cast<unsigned>((d.products * kHashes + rows_per_cta - 1) / rows_per_cta);
  return launch(directions_kernel, dim3(d.groups, ctas), dim3(kWarps * kWarp), 0, stream, p, d, lanes, whole);
}

}  // namespace yoso::cuda
