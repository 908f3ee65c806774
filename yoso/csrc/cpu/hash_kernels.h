// Hash codes: sixteen vectors side by side, so that every step is a plain vertical operation.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

using Float = Simd<float>;
using Mask = Simd<uint32_t>;

// 2^kLog rows of one butterfly network that lie `stride` rows apart.
template <int kLog>
inline void butterflies(float* work, const uint32_t* flips, const float* from, int64_t dim, int64_t stride) {
  constexpr int kRows = 1 << kLog;
  for (int64_t base = 0; base < dim; base += stride * kRows) {
    for (int64_t first = base; first < base + stride; ++first) {
      Float::Vec row[kRows];
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = first + r * stride;
        row[r] = Float::load(from + at * kLanes);
        if (flips) row[r] = (Float::Vec)((Mask::Vec)row[r] ^ Mask::splat(flips[at]));
      }
      for (int half = 1; half < kRows; half *= 2) {
        for (int r = 0; r < kRows; ++r) {
          if (r & half) continue;
          const Float::Vec low = row[r], high = row[r + half];
          row[r] = low + high;
          row[r + half] = low - high;
        }
      }
      for (int r = 0; r < kRows; ++r) Float::store(work + (first + r * stride) * kLanes, row[r]);
    }
  }
}

// work = H D from, with H unscaled and D the signs; three stages of butterflies a pass over the rows.
inline void rotate(float* work, const uint32_t* flips, const float* from, int64_t dim) {
  if (dim == 1) butterflies<0>(work, flips, from, 1, 1);
  for (int64_t stride = 1; stride < dim;) {
    if (dim / stride >= 8) {
      butterflies<3>(work, flips, from, dim, stride);
      stride *= 8;
    } else if (dim / stride == 4) {
      butterflies<2>(work, flips, from, dim, stride);
      stride *= 4;
    } else {
      butterflies<1>(work, flips, from, dim, stride);
      stride *= 2;
    }
    flips = nullptr;
    from = work;
  }
}

inline void set_bit(uint32_t* code, Float::Vec projection, uint32_t bit) {
  const Mask::Vec positive = (Mask::Vec)(projection > 0.0f);
  Mask::store(code, Mask::load(code) | (positive & Mask::splat(bit)));
}

void hash_hadamard(const HadamardTile& tile) {
  for (int64_t h = 0; h < tile.num_hash; ++h) Mask::store(tile.codes + h * kLanes, Mask::Vec{});
  for (int64_t block = 0; block < tile.blocks; ++block) {
    const float* from = tile.vectors;
    for (int64_t round = 0; round < tile.rounds; ++round) {
      const uint32_t* flips = tile.flips + (block * tile.rounds + round) * tile.padded_dim;
      rotate(tile.work, flips, from, tile.padded_dim);
      from = tile.work;
    }
    for (int64_t c = 0; c < tile.padded_dim; ++c) {
      const int32_t bit = tile.bit_of[block * tile.padded_dim + c];
      if (bit < 0) continue;
      set_bit(tile.codes + (bit >> 5) * kLanes, Float::load(from + c * kLanes), 1u << (bit & 31));
    }
  }
}

void hash_gaussian(const GaussianTile& tile) {
  constexpr int64_t kAtOnce = 8;
  for (int64_t h = 0; h < tile.num_hash; ++h) Mask::store(tile.codes + h * kLanes, Mask::Vec{});
  const int64_t directions = tile.num_hash * tile.hash_code_len;
  for (int64_t first = 0; first < directions; first += kAtOnce) {
    const int64_t count = directions - first < kAtOnce ? directions - first : kAtOnce;
    Float::Vec sum[kAtOnce] = {};
    if (count == kAtOnce) {
      for (int64_t c = 0; c < tile.dim; ++c) {
        const Float::Vec x = Float::load(tile.vectors + c * kLanes);
        for (int64_t r = 0; r < kAtOnce; ++r) sum[r] += x * tile.directions[(first + r) * tile.dim + c];
      }
    } else {
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t c = 0; c < tile.dim; ++c) {
          sum[r] += Float::load(tile.vectors + c * kLanes) * tile.directions[(first + r) * tile.dim + c];
        }
      }
    }
    for (int64_t r = 0; r < count; ++r) {
      const int64_t hash = (first + r) / tile.hash_code_len, bit = (first + r) % tile.hash_code_len;
      set_bit(tile.codes + hash * kLanes, sum[r], 1u << bit);
    }
  }
}

}  // namespace
}  // namespace yoso
