// Planes become directions: those of hash_directions.h.
//
// A bit of either Hadamard family is the sign of the projection on a row of H D'' H D' H D (yoso/hashing.py), which is
// computed here by two transforms of a row of H D''. Its entries are integers, at most dim^1.5 as all rows have that
// length, and from dim = 4 on multiples of 4: sums of dim numbers that are all 2 modulo 4 or all 0, since so are the
// transform's results for a row of signs. A quarter of them is at most 1024: float16 holds it exactly.
//
// A Gaussian direction is scaled by a power of two and becomes two float16 numbers, of 22 bits.
//
// A lane has 8 neighbouring columns of a row, `lanes` of them the row.
#include "hash_directions.h"
#include "hash_rows.cuh"

namespace yoso::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kOwn = 8;

// Where a direction's signs and coordinate are.
struct Rotation {
  int64_t first, second, last;  // rows of the planes
  int coordinate;

  __device__ Rotation(const HashParams& p, int hash, int bit) {
    if (p.family == HashFamily::kHadamard) {
      first = 0, second = 1, last = 2 + int64_t{hash / p.plane_dim} * p.hash_code_len + bit;
      coordinate = hash % p.plane_dim;
    } else {
      const int codes = p.plane_dim / p.hash_code_len;
      first = int64_t{hash / codes} * 3, second = first + 1, last = first + 2;
      coordinate = hash % codes * p.hash_code_len + bit;
    }
  }
};

// v becomes v H.
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

__device__ inline void store_columns(__half* to, const float (&v)[kOwn]) {
  *reinterpret_cast<uint4*>(to) = {pack(v[0], v[1], __half()), pack(v[2], v[3], __half()), pack(v[4], v[5], __half()),
                                   pack(v[6], v[7], __half())};
}

__device__ inline void make_integers(const HashParams& p, int64_t group, int hash, int bit, int lane, int lanes,
                                     float (&v)[kOwn]) {
  const Rotation rotation(p, hash, bit);
  const int first = lane * kOwn;
  const int8_t* plane = static_cast<const int8_t*>(p.planes) + group * p.plane_rows * p.plane_dim;
  auto sign = [&](int64_t row, int c) {
    return first + c < p.plane_dim ? static_cast<float>(plane[row * p.plane_dim + first + c]) : 0.0f;
  };
#pragma unroll
  for (int c = 0; c < kOwn; ++c) {
    const float own = sign(rotation.last, c);
    v[c] = __popc(rotation.coordinate & (first + c)) & 1 ? -own : own;
  }
  transform(v, lane, lanes);
#pragma unroll
  for (int c = 0; c < kOwn; ++c) v[c] *= sign(rotation.second, c);
  transform(v, lane, lanes);
  const float unit = p.plane_dim < 4 ? -1.0f : -0.25f;
#pragma unroll
  for (int c = 0; c < kOwn; ++c) v[c] *= unit * sign(rotation.first, c);
}

__device__ inline void load_gaussian(const HashParams& p, int64_t group, int hash, int bit, int lane, int lanes,
                                     bool aligned, float (&v)[kOwn]) {
  const int64_t row = group * p.plane_rows + int64_t{hash} * p.hash_code_len + bit;
  load_columns(static_cast<const float*>(p.planes) + row * p.dim, lane * kOwn, p.dim, aligned, v);
  float largest = largest_of(v);
  for (int other = 1; other < lanes; other *= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, other));
  }
  const float scale = -scale_of(largest);
#pragma unroll
  for (float& x : v) x *= scale;
}

// aligned: rows of Gaussian planes start at 16 bytes.
__global__ void __launch_bounds__(kWarps* kWarp)
    directions_kernel(HashParams p, Directions d, int lanes, bool aligned) {
  const int row = (blockIdx.y * blockDim.x + threadIdx.x) / lanes, lane = threadIdx.x % lanes;
  if (row >= d.products * kHashes) return;  // all of a warp or none: it has 1 to 8 rows
  const int product = row / kHashes, tau = p.hash_code_len;
  const int hash = product / tau * kHashes + row % kHashes, bit = tau - 1 - product % tau;
  // The last hash stands in for those beyond: shuffles want the whole warp.
  const int real_hash = min(hash, p.num_hash - 1);
  const int64_t group = int64_t{d.first_group} + blockIdx.x;
  float v[kOwn];
  if (d.parts == 1) {
    make_integers(p, group, real_hash, bit, lane, lanes, v);
  } else {
    load_gaussian(p, group, real_hash, bit, lane, lanes, aligned, v);
  }
  const int column = lane * kOwn;
  if (column >= d.pairs * kPairColumns) return;
  __half* to = d.halves + blockIdx.x * d.group_halves() + int64_t{product} * d.product_halves() +
               column / kPairColumns * kPairHalves + row % kHashes * kPairColumns + column % kPairColumns;
#pragma unroll
  for (float& x : v) x = hash < p.num_hash ? x : 0.0f;
  store_columns(to + (d.parts - 1) * d.pairs * kPairHalves, v);
  if (d.parts == 1) return;
#pragma unroll
  for (float& x : v) x = rest(x);
  store_columns(to, v);
}

}  // namespace

cudaError_t launch_directions(const HashParams& p, const Directions& d, cudaStream_t stream) {
  const int columns = d.pairs * kPairColumns, width = d.parts == 1 && p.plane_dim > columns ? p.plane_dim : columns;
  const int lanes = width / kOwn, rows_a_block = kWarps * kWarp / lanes;
  const bool aligned = p.dim % 4 == 0 && reinterpret_cast<uintptr_t>(p.planes) % 16 == 0;
  const auto blocks = static_cast<unsigned>((d.products * kHashes + rows_a_block - 1) / rows_a_block);
  return launch(directions_kernel, dim3(d.groups, blocks), dim3(kWarps * kWarp), 0, stream, p, d, lanes, aligned);
}

}  // namespace yoso::cuda
