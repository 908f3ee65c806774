// The shapes of expectation_kernel: how its work is divided, for each element type, head dim and mode.
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

// Which results a kernel computes. Registers limit a kernel that computes both to the smaller head dims: where the
// table has no row for kBoth, the results take two launches.
enum class ExpectationMode { kSum, kGradX, kBoth };
constexpr ExpectationMode kModeSum = ExpectationMode::kSum, kModeGradX = ExpectationMode::kGradX,
                          kModeBoth = ExpectationMode::kBoth;

struct ExpectationShape {
  int element_bytes;  // 2: float16 and bfloat16; 4: float32
  int dim;            // x_dim and value_dim, rounded up
  ExpectationMode mode;
  int warps;                    // per CTA
  int row_fragments;            // a warp owns 16 * row_fragments rows
  int step_rows;                // other rows that are processed per step of the inner loop
  int tile_rows;                // other rows per tile in shared memory
  int stages;                   // tiles in shared memory: 2 overlap the next tile's copy with the work on this one
  bool own_x_in_registers;      // else own.x is read from shared memory again in every step
  bool own_value_in_registers;  // the same for own.value, which kSum does not use
  bool constant_tau;            // one inner loop per tau, see with_tau
  int ctas_per_sm;              // limits registers per thread to 65536 / (32 * warps) / ctas_per_sm
};

// Reasons for the choices:
//   warps, tile_rows, stages   Shared memory stays within the 99 KiB of sm_86 and sm_89 (asserted below).
//   row_fragments              Two halve the reads of shared memory per pair, which otherwise limit the gradient (24 to
//                              32 cycles per pair). From dim 128 on there are too few registers.
//   step_rows                  Results, cosines and products have to fit 255 registers per thread.
//   constant_tau               It takes long to compile, so only where weights take more time than products.
//   ctas_per_sm                As many as registers allow without spills. (float32 with dim 256 spills row pointers.)
// clang-format off
constexpr ExpectationShape kExpectationShapes[] = {
  // bytes  dim  mode        warps  row_fragments  step  tile  stages  own_x  own_value  constant_tau  ctas_per_sm
  {  2,     32,  kModeSum,   4,     2,             16,   64,   2,      true,  true,      true,         4},
  {  2,     32,  kModeGradX, 4,     1,             32,   64,   2,      true,  true,      true,         4},
  {  2,     32,  kModeBoth,  4,     1,             32,   64,   2,      true,  true,      true,         4},
  {  2,     64,  kModeSum,   4,     2,             16,   64,   2,      true,  false,     true,         3},
  {  2,     64,  kModeGradX, 4,     2,             16,   64,   2,      true,  true,      true,         2},
  {  2,     64,  kModeBoth,  4,     2,             16,   64,   2,      true,  false,     true,         2},
  {  2,    128,  kModeSum,   4,     1,             32,   32,   2,      true,  true,      false,        3},
  {  2,    128,  kModeGradX, 4,     1,             32,   32,   2,      false, false,     false,        3},
  {  2,    128,  kModeBoth,  4,     1,             32,   32,   2,      false, false,     false,        2},
  {  2,    256,  kModeSum,   4,     1,             16,   32,   2,      false, false,     false,        2},
  {  2,    256,  kModeGradX, 4,     1,             16,   16,   2,      false, false,     false,        2},
  {  4,     32,  kModeSum,   4,     1,             16,   32,   2,      false, false,     false,        3},
  {  4,     32,  kModeGradX, 4,     1,             16,   32,   2,      false, false,     false,        3},
  {  4,     32,  kModeBoth,  4,     1,             16,   32,   2,      false, false,     false,        3},
  {  4,     64,  kModeSum,   4,     1,             16,   32,   2,      false, false,     false,        2},
  {  4,     64,  kModeGradX, 4,     1,             16,   32,   2,      false, false,     false,        2},
  {  4,     64,  kModeBoth,  4,     1,             16,   32,   2,      false, false,     false,        2},
  {  4,    128,  kModeSum,   4,     1,             16,   16,   2,      false, false,     false,        2},
  {  4,    128,  kModeGradX, 4,     1,             16,   16,   2,      false, false,     false,        2},
  {  4,    256,  kModeSum,   4,     1,             16,   16,   1,      false, false,     false,        2},
  {  4,    256,  kModeGradX, 2,     1,             16,   16,   1,      false, false,     false,        2},
};
// clang-format on

// The row of the table, or null if there is none.
constexpr const ExpectationShape* find_expectation_shape(int element_bytes, int dim, ExpectationMode mode) {
  for (const ExpectationShape& shape : kExpectationShapes) {
    if (shape.element_bytes == element_bytes && shape.dim == dim && shape.mode == mode) return &shape;
  }
  return nullptr;
}

// The shape of the kernel for these template arguments, and the sizes that follow from it.
template <typename T, int kDim, bool kSum, bool kGradX>
struct ExpectationTiling {
  static_assert(kSum || kGradX);
  static constexpr ExpectationShape kShape =
      *find_expectation_shape(sizeof(T), kDim, kSum ? (kGradX ? kModeBoth : kModeSum) : kModeGradX);
  static constexpr int kThreads = kShape.warps * kWarp;
  static constexpr int kRowFragments = kShape.row_fragments;
  static constexpr int kOwnRows = kShape.warps * kRowFragments * 16;
  static constexpr int kTileRows = kShape.tile_rows;
  // In elements. The 16 bytes of padding let ldmatrix read without bank conflicts.
  static constexpr int kStride = kDim + 16 / static_cast<int>(sizeof(T));
  // The own rows' x, and value for grad_x, then per stage a tile of the other rows' x and value.
  static constexpr int kSharedElements = kStride * ((kGradX ? 2 : 1) * kOwnRows + kShape.stages * 2 * kTileRows);
  static_assert(kSharedElements * sizeof(T) <= 99 * 1024);
  static_assert(kTileRows % kShape.step_rows == 0);
};

}  // namespace yoso::cuda
