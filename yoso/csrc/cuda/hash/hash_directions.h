// The directions of all hash families as float16 numbers, in the order in which codes_kernel reads them.
#pragma once

#include "hash.h"

namespace yoso::cuda {

constexpr int kHashes = 8;        // hashes per product: a product computes one bit of each
constexpr int kPairColumns = 32;  // columns per pair of mma steps: four lanes have 16 bytes of a row each
constexpr int kPairHalves = kHashes * kPairColumns;

// The directions of a group of planes are [products][parts][pairs][kHashes][kPairColumns], zero beyond num_hash.
// Columns beyond dim are multiplied by zeros of the vectors. Consecutive products are the bits of kHashes codes, from
// the last bit to the first; then the next kHashes hashes follow. All directions are negated, so that a projection's
// sign bit is 1 where the projection on the original direction is positive.
struct Directions {
  __half* halves;
  uint32_t first_group, groups;  // groups [first_group, first_group + groups) of the planes
  uint32_t products;             // per group
  uint32_t pairs;                // of mma steps, to cover dim: 1, 2, 4 or 8
  uint32_t parts;                // 1: exact integers; 2: the rounding error of a direction, then the rounded direction

  __host__ __device__ uint32_t product_halves() const { return parts * pairs * kPairHalves; }
  __host__ __device__ int64_t group_halves() const { return int64_t{products} * product_halves(); }
};

cudaError_t launch_directions(const HashParams& params, const Directions& directions, cudaStream_t stream);

}  // namespace yoso::cuda
