// The directions of all families as float16 numbers, in the order in which the products want them.
#pragma once

#include "hash.h"

namespace yoso::cuda {

constexpr int kHashes = 8;        // a product: one bit of so many hashes
constexpr int kPairColumns = 32;  // two steps of a product: a lane's 16 bytes of a row of halves, four lanes a row
constexpr int kPairHalves = kHashes * kPairColumns;

// A group's directions are [products][parts][pairs][kHashes][kPairColumns], zero beyond num_hash; columns beyond dim
// meet zeros of the vectors. The bits of a code go from the last to the first, then come the next kHashes hashes. All
// are negated: a projection's sign bit says "positive".
struct Directions {
  __half* halves;
  uint32_t first_group, groups;  // those of the planes that are here
  uint32_t products;             // of a group
  uint32_t pairs;                // that cover dim: 1, 2, 4 or 8
  uint32_t parts;                // 1: integers, exact; 2: what float16 leaves of the other, then the other

  __host__ __device__ uint32_t product_halves() const { return parts * pairs * kPairHalves; }
  __host__ __device__ int64_t group_halves() const { return int64_t{products} * product_halves(); }
};

cudaError_t launch_directions(const HashParams& params, const Directions& directions, cudaStream_t stream);

}  // namespace yoso::cuda
