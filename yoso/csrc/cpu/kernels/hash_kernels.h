// Hash codes of sixteen vectors at a time, one vector per SIMD lane, so that every step is a vertical operation with no
// shuffle. Below, a row of 16 floats has the same coordinate of all sixteen vectors.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

using Float = Simd<float>;
using Bits = Simd<uint32_t>;

// Exchanges blocks of kWidth lanes between rows r and r + kWidth: one of the four steps of a 16 x 16 transposition. In
// each group of 2 kWidth lanes, the upper half of row r changes places with the lower half of row r + kWidth.
template <int kWidth>
inline void swap_halves(Float::Vec row[kLanes]) {
  // Which of the 32 input lanes (0 to 15: row r, 16 to 31: row r + kWidth) an output lane takes.
  constexpr auto kPick = [](uint32_t lane, bool second) {
    const bool upper = lane & kWidth;
    return second ? (upper ? kLanes + lane : lane + kWidth) : (upper ? kLanes + lane - kWidth : lane);
  };
#define YOSO_PICK(second)                                                                                             \
  Bits::Vec {                                                                                                         \
    kPick(0, second), kPick(1, second), kPick(2, second), kPick(3, second), kPick(4, second), kPick(5, second),       \
        kPick(6, second), kPick(7, second), kPick(8, second), kPick(9, second), kPick(10, second), kPick(11, second), \
        kPick(12, second), kPick(13, second), kPick(14, second), kPick(15, second)                                    \
  }
#pragma GCC unroll 16
  for (int r = 0; r < kLanes; ++r) {
    if (r & kWidth) continue;
    const Float::Vec first = row[r], second = row[r + kWidth];
    row[r] = __builtin_shuffle(first, second, YOSO_PICK(false));
    row[r + kWidth] = __builtin_shuffle(first, second, YOSO_PICK(true));
  }
#undef YOSO_PICK
}

// Transposes a 16 x 16 matrix in registers.
inline void transpose(Float::Vec row[kLanes]) {
  swap_halves<8>(row);
  swap_halves<4>(row);
  swap_halves<2>(row);
  swap_halves<1>(row);
}

// Multiplies vectors [dim][16] by powers of two where their projections would overflow or vanish; no sign changes. A
// vector with an infinity is left as it is.
inline void bring_into_range(float* columns, int64_t dim) {
  constexpr float kSmallest = 0x1p-60f, kLargest = 0x1p+60f;
  Float::Vec largest{};
  for (int64_t c = 0; c < dim; ++c) {
    const Float::Vec x = Float::load(columns + c * kLanes), magnitude = x < 0.0f ? -x : x;
    largest = magnitude > largest ? magnitude : largest;
  }
  Float::Vec scale = Float::splat(1.0f);
  bool ordinary = true;
  for (int lane = 0; lane < kLanes; ++lane) {
    const float magnitude = largest[lane];
    if (magnitude == 0 || (kSmallest <= magnitude && magnitude <= kLargest) || __builtin_isinf(magnitude)) continue;
    scale[lane] = magnitude < 1 ? 0x1p+100f : 0x1p-100f;
    ordinary = false;
  }
  if (ordinary) return;
  for (int64_t c = 0; c < dim; ++c) Float::store(columns + c * kLanes, Float::load(columns + c * kLanes) * scale);
}

// Transposes the tile's vectors to [padded_dim][16]. Lanes beyond the last vector and rows beyond dim are zero.
inline void transpose_tile(const HashTile& tile, float* columns) {
  for (int64_t first = 0; first < tile.padded_dim; first += kLanes) {
    Float::Vec row[kLanes];
    if (tile.count == kLanes && first + kLanes <= tile.dim) {
#pragma GCC unroll 16
      for (int64_t i = 0; i < kLanes; ++i) row[i] = Float::load(tile.rows + i * tile.stride + first);
    } else {
      for (int64_t i = 0; i < kLanes; ++i) {
        row[i] = Float::Vec{};
        if (i >= tile.count) continue;
        for (int64_t c = first; c < tile.dim && c < first + kLanes; ++c) {
          row[i][c - first] = tile.rows[i * tile.stride + c];
        }
      }
    }
    transpose(row);
    for (int64_t c = first; c < tile.padded_dim && c < first + kLanes; ++c) {
      Float::store(columns + c * kLanes, row[c - first]);
    }
  }
  bring_into_range(columns, tile.dim);
}

// Sets a bit in the code of each lane whose projection is positive.
inline void set_bit(uint32_t* code, Float::Vec projection, uint32_t bit) {
  const Bits::Vec positive = (Bits::Vec)(projection > 0.0f);
  Bits::store(code, Bits::load(code) | (positive & Bits::splat(bit)));
}

inline void clear_bits(const HashTile& tile) {
  for (int64_t h = 0; h < tile.num_hash; ++h) Bits::store(tile.bits + h * kLanes, Bits::Vec{});
}

inline void store_codes(const HashTile& tile) {
  typedef uint16_t Codes __attribute__((vector_size(kLanes * sizeof(uint16_t))));
  for (int64_t h = 0; h < tile.num_hash; ++h) {
    const Codes codes = __builtin_convertvector(Bits::load(tile.bits + h * kLanes), Codes);
    uint16_t* to = tile.codes + h * tile.codes_stride;
    if (tile.count == kLanes) {
      __builtin_memcpy(to, &codes, sizeof(codes));
    } else {
      __builtin_memcpy(to, &codes, tile.count * sizeof(uint16_t));
    }
  }
}

// Where a pass of butterflies writes its rows, as floats or as code bits.
struct PassOutput {
  float* rows;            // [dim][16]; unused if the rows become bits
  const int32_t* bit_of;  // [dim] the code bit that the sign of a row gives, as hash * 32 + bit
  uint32_t* bits;         // [num_hash + 1][16]
};

// One pass over the rows: kLog butterfly stages on groups of 2^kLog rows that are `stride` rows apart, in registers.
// The first pass (kFirst) computes each input row as the sum of the `folds` rows of `from` that are dim rows apart,
// each multiplied by its sign. The last pass (kToBits) may write code bits instead of rows.
template <int kLog, bool kFirst, bool kToBits>
inline void butterflies(const PassOutput output, const float* signs, const float* from, int64_t folds, int64_t dim,
                        int64_t stride) {
  constexpr int kRows = 1 << kLog;
  for (int64_t base = 0; base < dim; base += stride * kRows) {
    for (int64_t first = base; first < base + stride; ++first) {
      Float::Vec row[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = first + r * stride;
        row[r] = Float::load(from + at * kLanes);
        if constexpr (kFirst) row[r] *= signs[at];
      }
      if constexpr (kFirst) {
        for (int64_t fold = dim; fold < folds * dim; fold += dim) {
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r) {
            const int64_t at = first + r * stride + fold;
            row[r] += Float::load(from + at * kLanes) * signs[at];
          }
        }
      }
#pragma GCC unroll 3
      for (int half = 1; half < kRows; half *= 2) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          if (r & half) continue;
          const Float::Vec low = row[r], high = row[r + half];
          row[r] = low + high;
          row[r + half] = low - high;
        }
      }
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = first + r * stride;
        if constexpr (kToBits) {
          set_bit(output.bits + (output.bit_of[at] >> 5) * kLanes, row[r], 1u << (output.bit_of[at] & 31));
        } else {
          Float::store(output.rows + at * kLanes, row[r]);
        }
      }
    }
  }
}

template <bool kFirst, bool kToBits>
inline void butterfly_pass(const PassOutput output, const float* signs, const float* from, int64_t folds, int64_t dim,
                           int64_t stride, int64_t radix) {
  if (radix == 8) butterflies<3, kFirst, kToBits>(output, signs, from, folds, dim, stride);
  if (radix == 4) butterflies<2, kFirst, kToBits>(output, signs, from, folds, dim, stride);
  if (radix == 2) butterflies<1, kFirst, kToBits>(output, signs, from, folds, dim, stride);
  if (radix == 1) butterflies<0, kFirst, kToBits>(output, signs, from, folds, dim, stride);
}

// Computes the first `outputs` coordinates of H D x, where x is `from`, H is the unscaled Hadamard matrix [dim][dim]
// and D is the diagonal matrix of the signs. Each pass over the rows performs three butterfly stages (radix 8). The
// first `outputs` rows of H repeat with period `outputs` along the columns, so inputs that distance apart are added
// first (folding).
template <bool kToBits>
inline void rotate(const PassOutput output, const float* signs, const float* from, int64_t dim, int64_t outputs) {
  const int64_t folds = dim / outputs;
  int64_t radix = outputs < 8 ? outputs : 8;
  if (radix == outputs) {
    butterfly_pass<true, kToBits>(output, signs, from, folds, outputs, 1, radix);
    return;
  }
  butterfly_pass<true, false>(output, signs, from, folds, outputs, 1, radix);
  for (int64_t stride = radix; stride < outputs; stride *= radix) {
    radix = outputs / stride < 8 ? outputs / stride : 8;
    if (stride * radix == outputs) {
      butterfly_pass<false, kToBits>(output, nullptr, output.rows, 1, outputs, stride, radix);
    } else {
      butterfly_pass<false, false>(output, nullptr, output.rows, 1, outputs, stride, radix);
    }
  }
}

void hash_hadamard(const HashTile& tile, const HadamardHash& hash) {
  const int64_t dim = tile.padded_dim;
  float *columns = tile.work, *shared_result = columns + dim * kLanes, *block_result = shared_result + dim * kLanes;
  transpose_tile(tile, columns);
  clear_bits(tile);
  const float *signs = hash.signs, *start = columns;
  for (int64_t round = 0; round < hash.shared_rounds; ++round, signs += dim) {
    rotate<false>({shared_result, nullptr, nullptr}, signs, start, dim, dim);
    start = shared_result;
  }
  for (int64_t block = 0; block < hash.blocks; ++block) {
    const float* from = start;
    for (int64_t round = 1; round < hash.block_rounds; ++round, signs += dim) {
      rotate<false>({block_result, nullptr, nullptr}, signs, from, dim, dim);
      from = block_result;
    }
    rotate<true>({block_result, hash.bit_of + block * dim, tile.bits}, signs, from, dim, hash.outputs);
    signs += dim;
  }
  store_codes(tile);
}

void hash_gaussian(const HashTile& tile, const GaussianHash& hash) {
  constexpr int64_t kAtOnce = 8;  // directions per pass over the vectors, whose sums stay in registers
  const float* columns = tile.work;
  transpose_tile(tile, tile.work);
  clear_bits(tile);
  const int64_t directions = tile.num_hash * hash.hash_code_len;
  for (int64_t first = 0; first < directions; first += kAtOnce) {
    const int64_t count = directions - first < kAtOnce ? directions - first : kAtOnce;
    const float* direction = hash.directions + first * tile.dim;
    Float::Vec sum[kAtOnce] = {};
    if (count == kAtOnce) {
      for (int64_t c = 0; c < tile.dim; ++c) {
        const Float::Vec x = Float::load(columns + c * kLanes);
        for (int64_t r = 0; r < kAtOnce; ++r) sum[r] += x * direction[r * tile.dim + c];
      }
    } else {
      for (int64_t r = 0; r < count; ++r) {
        for (int64_t c = 0; c < tile.dim; ++c) {
          sum[r] += Float::load(columns + c * kLanes) * direction[r * tile.dim + c];
        }
      }
    }
    for (int64_t r = 0; r < count; ++r) {
      const int64_t index = first + r;
      set_bit(tile.bits + index / hash.hash_code_len * kLanes, sum[r], 1u << (index % hash.hash_code_len));
    }
  }
  store_codes(tile);
}

}  // namespace
}  // namespace yoso
