// Hash codes: sixteen vectors side by side, so that every step is a plain vertical operation.
#pragma once

#include "simd.h"

namespace yoso {
namespace {

using Float = Simd<float>;
using Mask = Simd<uint32_t>;

// Rows r and r + kWidth swap the halves of each group of 2 kWidth lanes: one of four steps of a transposition.
template <int kWidth>
inline void swap_halves(Float::Vec row[kLanes]) {
  constexpr auto kPick = [](uint32_t lane, bool second) {
    const bool upper = lane & kWidth;
    return second ? (upper ? kLanes + lane : lane + kWidth) : (upper ? kLanes + lane - kWidth : lane);
  };
#define YOSO_PICK(second)                                                                                             \
  Mask::Vec {                                                                                                         \
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

// Sixteen rows of sixteen floats become sixteen columns.
inline void transpose(Float::Vec row[kLanes]) {
  swap_halves<8>(row);
  swap_halves<4>(row);
  swap_halves<2>(row);
  swap_halves<1>(row);
}

// The tile's vectors side by side, [padded_dim][16], zero beyond the last vector and beyond dim.
inline void gather_columns(const HashTile& tile, float* columns) {
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
}

inline void set_bit(uint32_t* code, Float::Vec projection, uint32_t bit) {
  const Mask::Vec positive = (Mask::Vec)(projection > 0.0f);
  Mask::store(code, Mask::load(code) | (positive & Mask::splat(bit)));
}

inline void clear_bits(const HashTile& tile) {
  for (int64_t h = 0; h < tile.num_hash; ++h) Mask::store(tile.bits + h * kLanes, Mask::Vec{});
}

inline void store_codes(const HashTile& tile) {
  typedef uint16_t Codes __attribute__((vector_size(kLanes * sizeof(uint16_t))));
  for (int64_t h = 0; h < tile.num_hash; ++h) {
    const Codes codes = __builtin_convertvector(Mask::load(tile.bits + h * kLanes), Codes);
    uint16_t* to = tile.codes + h * tile.codes_stride;
    if (tile.count == kLanes) {
      __builtin_memcpy(to, &codes, sizeof(codes));
    } else {
      __builtin_memcpy(to, &codes, tile.count * sizeof(uint16_t));
    }
  }
}

// What becomes of the rows that a pass of butterflies has made.
struct Sink {
  float* rows;            // [dim][16] where they go, unless they become bits
  const int32_t* bit_of;  // [dim] the bit that a row's sign is
  uint32_t* bits;
};

// 2^kLog rows of one butterfly network that lie `stride` rows apart. The first pass makes each row from the `folds`
// rows of `from` that lie dim apart, each times its sign; the last one may turn its rows into bits instead of storing
// them.
template <int kLog, bool kFirst, bool kToBits>
inline void butterflies(const Sink sink, const float* signs, const float* from, int64_t folds, int64_t dim,
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
          set_bit(sink.bits + (sink.bit_of[at] >> 5) * kLanes, row[r], 1u << (sink.bit_of[at] & 31));
        } else {
          Float::store(sink.rows + at * kLanes, row[r]);
        }
      }
    }
  }
}

template <bool kFirst, bool kToBits>
inline void pass(const Sink sink, const float* signs, const float* from, int64_t folds, int64_t dim, int64_t stride,
                 int64_t radix) {
  if (radix == 8) butterflies<3, kFirst, kToBits>(sink, signs, from, folds, dim, stride);
  if (radix == 4) butterflies<2, kFirst, kToBits>(sink, signs, from, folds, dim, stride);
  if (radix == 2) butterflies<1, kFirst, kToBits>(sink, signs, from, folds, dim, stride);
  if (radix == 1) butterflies<0, kFirst, kToBits>(sink, signs, from, folds, dim, stride);
}

// The first `outputs` coordinates of H D from, with H unscaled [dim][dim] and D the signs; three stages of butterflies
// a pass over the rows. The first rows of H repeat with period `outputs`, so inputs that far apart are added first.
template <bool kToBits>
inline void rotate(const Sink sink, const float* signs, const float* from, int64_t dim, int64_t outputs) {
  const int64_t folds = dim / outputs;
  int64_t radix = outputs < 8 ? outputs : 8;
  if (radix == outputs) {
    pass<true, kToBits>(sink, signs, from, folds, outputs, 1, radix);
    return;
  }
  pass<true, false>(sink, signs, from, folds, outputs, 1, radix);
  for (int64_t stride = radix; stride < outputs; stride *= radix) {
    radix = outputs / stride < 8 ? outputs / stride : 8;
    if (stride * radix == outputs) {
      pass<false, kToBits>(sink, nullptr, sink.rows, 1, outputs, stride, radix);
    } else {
      pass<false, false>(sink, nullptr, sink.rows, 1, outputs, stride, radix);
    }
  }
}

void hash_hadamard(const HashTile& tile, const HadamardHash& hash) {
  const int64_t dim = tile.padded_dim;
  float *columns = tile.work, *shared = columns + dim * kLanes, *own = shared + dim * kLanes;
  gather_columns(tile, columns);
  clear_bits(tile);
  const float *signs = hash.signs, *start = columns;
  for (int64_t round = 0; round < hash.shared_rounds; ++round, signs += dim) {
    rotate<false>({shared, nullptr, nullptr}, signs, start, dim, dim);
    start = shared;
  }
  for (int64_t block = 0; block < hash.blocks; ++block) {
    const float* from = start;
    for (int64_t round = 1; round < hash.block_rounds; ++round, signs += dim) {
      rotate<false>({own, nullptr, nullptr}, signs, from, dim, dim);
      from = own;
    }
    rotate<true>({own, hash.bit_of + block * dim, tile.bits}, signs, from, dim, hash.outputs);
    signs += dim;
  }
  store_codes(tile);
}

void hash_gaussian(const HashTile& tile, const GaussianHash& hash) {
  constexpr int64_t kAtOnce = 8;
  const float* columns = tile.work;
  gather_columns(tile, tile.work);
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
      const int64_t at = first + r;
      set_bit(tile.bits + at / hash.hash_code_len * kLanes, sum[r], 1u << (at % hash.hash_code_len));
    }
  }
  store_codes(tile);
}

}  // namespace
}  // namespace yoso
