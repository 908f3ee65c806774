// Rounds H D of the Hadamard hash families in registers: kDim values of a vector lie in kLanes neighbouring lanes,
// kElements each.
//
// Signs cost nothing: in a butterfly network all values of one block carry one common sign that need not be applied.
// low + high becomes fma(factor, high, low), with factor the product of the two blocks' signs, and the sum carries
// low's. Only a lane's first value is multiplied by its own sign, so the sign that a lane's results carry is known.
// `factors` of a round are, per lane, [0]: the sign of the first value; [half + i], i < half: the factor of the
// butterflies between elements i and i + half of each block of 2 half.
//
// No value is ever -0, so the sign bit of a negated result says exactly "positive": sums of opposite numbers are +0,
// `low` is never -0, and +0 is added to what comes in. NaN: the GPU's arithmetic makes NaN without the sign bit only.
#pragma once

#include "hash_rows.cuh"

namespace yoso::cuda {

// Where coordinates lie. kSpread: groups of four go round the lanes, so that the first coordinates, the only wanted
// ones, are evenly shared; else each lane holds neighbours.
template <int kDim_, int kLanes_, bool kSpread_>
struct RotationShape {
  static constexpr int kDim = kDim_, kLanes = kLanes_, kElements = kDim / kLanes, kVectors = kWarp / kLanes;
  // Lanes lie four floats apart in shared memory beyond their elements: 16-byte reads meet no bank twice.
  static constexpr int kPitch = kElements + 4;

  __device__ static int coordinate(int lane, int element) {
    return kSpread_ ? element / 4 * (4 * kLanes) + lane * 4 + element % 4 : lane * kElements + element;
  }
  // The place of coordinate c in [kLanes][kPitch].
  __device__ static int place(int c) {
    return kSpread_ ? c / 4 % kLanes * kPitch + c / (4 * kLanes) * 4 + c % 4 : c / kElements * kPitch + c % kElements;
  }
};

// `rows` rows of signs, `plane` [rows][real_dim], as factors [rows][kLanes][kPitch]. `real_dim` <= kDim is the
// rotation's own size: the values beyond it are multiplied by 0. `negate`: the results come out negated. Coordinates
// `skipped` on, a multiple of a power of two that bounds the wanted ones' number, become the first ones.
// Called by the whole block, of a power of two of threads.
template <typename Shape>
__device__ inline void stage_factors(const int8_t* plane, int rows, int real_dim, bool negate, int skipped,
                                     float* factors) {
  const int columns = min(static_cast<int>(blockDim.x), Shape::kDim), rows_at_once = blockDim.x / columns;
  for (int i = threadIdx.x % columns; i < Shape::kDim; i += columns) {
    const int lane = i / Shape::kElements, element = i % Shape::kElements;
    const int low = element > 0 ? element ^ (1 << (31 - __clz(element))) : 0;
    const int own = Shape::coordinate(lane, element), other = Shape::coordinate(lane, low);
    // H[skipped + r, c] = H[r, c] times the sign of the bits that skipped and c share.
    int sign = __popc(skipped & own) & 1 ? -1 : 1;
    if (low > 0 && __popc(skipped & other) & 1) sign = -sign;
    if (low == 0 && negate) sign = -sign;
    if (own >= real_dim) sign = 0;
    const int8_t* own_plane = plane + (sign == 0 ? 0 : own);
    const int8_t* other_plane = plane + (low > 0 && sign != 0 ? other : 0);
    float* to = factors + lane * Shape::kPitch + element;
#pragma unroll 4
    for (int row = threadIdx.x / columns; row < rows; row += rows_at_once) {
      const int product = own_plane[row * real_dim] * (low > 0 ? other_plane[row * real_dim] : 1);
      to[row * (Shape::kLanes * Shape::kPitch)] = static_cast<float>(sign * product);
    }
  }
}

// The first results of one round, kResults a lane: coordinates `Shape::coordinate(lane, 0 .. kResults)` of +-H D in.
// `factors` are this lane's. Stages go from far pairs to near ones; where only low coordinates are wanted, a stage
// keeps its sums alone and halves what is left.
template <typename Shape, int kResults>
__device__ inline void rotate(const float (&in)[Shape::kElements], const float* factors, float (&out)[kResults]) {
  constexpr int kElements = Shape::kElements;
  const auto* quads = reinterpret_cast<const float4*>(factors);
  float v[kElements];
#pragma unroll
  for (int i = 0; i < kElements; ++i) v[i] = in[i];
  const float4 first = quads[0];
  v[0] = fmaf(first.x, v[0], 0.0f);
#pragma unroll
  for (int half = kElements / 2; half > 0; half /= 2) {
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float4 quad = half < 4 ? first : quads[(half + i) / 4];
      const int component = (half + i) % 4;
      const float factor = component == 0 ? quad.x : component == 1 ? quad.y : component == 2 ? quad.z : quad.w;
      if (half >= kResults) {
        v[i] = fmaf(factor, v[i + half], v[i]);
      } else {
#pragma unroll
        for (int low = i; low < kResults; low += 2 * half) {
          const float sum = fmaf(factor, v[low + half], v[low]);
          v[low + half] = fmaf(-factor, v[low + half], v[low]);
          v[low] = sum;
        }
      }
    }
  }
  const int lane = threadIdx.x % Shape::kLanes;
#pragma unroll
  for (int bit = 1; bit < Shape::kLanes; bit *= 2) {
    const float sign = lane & bit ? -1.0f : 1.0f;
#pragma unroll
    for (int i = 0; i < kResults; ++i) v[i] = fmaf(sign, v[i], __shfl_xor_sync(kWholeWarp, v[i], bit));
  }
#pragma unroll
  for (int i = 0; i < kResults; ++i) out[i] = v[i];
}

// A warp brings its vectors into `tile` [kWarp][kPitch], where each lane finds its own elements: neighbouring lanes
// read neighbouring addresses of a row, whatever the rotation needs. Rows from `count` on are zero.
template <typename Shape, typename T>
__device__ inline void load_vectors(const T* rows, int64_t stride_row, int64_t count, int dim, bool aligned,
                                    float* tile) {
  constexpr int kPart = 16 / sizeof(T), kParts = Shape::kDim / kPart;
#pragma unroll 4
  for (int i = threadIdx.x % kWarp; i < Shape::kVectors * kParts; i += kWarp) {
    const int vector = i / kParts, first = i % kParts * kPart;
    float v[kPart];
    load_columns(rows + vector * stride_row, first, vector < count ? dim : 0, aligned, v);
#pragma unroll
    for (int c = 0; c < kPart; c += 4) {
      float* place = tile + vector * (Shape::kLanes * Shape::kPitch) + Shape::place(first + c);
      const float4 four = {v[c] + 0.0f, v[c + 1] + 0.0f, v[c + 2] + 0.0f, v[c + 3] + 0.0f};
      *reinterpret_cast<float4*>(place) = four;
    }
  }
}

template <typename Shape>
__device__ inline void load_vectors(const HashParams& p, uint32_t head, int64_t first, float* tile) {
  const int64_t offset = p.head_offset(head) + first * p.x.stride_row, count = p.length - first;
  switch (p.dtype) {
    case Dtype::kFloat32:
      return load_vectors<Shape>(static_cast<const float*>(p.x.data) + offset, p.x.stride_row, count, p.dim, p.aligned,
                                 tile);
    case Dtype::kBFloat16:
      return load_vectors<Shape>(static_cast<const __nv_bfloat16*>(p.x.data) + offset, p.x.stride_row, count, p.dim,
                                 p.aligned, tile);
    case Dtype::kFloat16:
      return load_vectors<Shape>(static_cast<const __half*>(p.x.data) + offset, p.x.stride_row, count, p.dim, p.aligned,
                                 tile);
  }
}

template <typename Shape>
__device__ inline void read_elements(const float* tile, float (&v)[Shape::kElements]) {
  const auto* quads = reinterpret_cast<const float4*>(tile + threadIdx.x % kWarp * Shape::kPitch);
#pragma unroll
  for (int i = 0; i < Shape::kElements; i += 4) {
    const float4 quad = quads[i / 4];
    v[i] = quad.x, v[i + 1] = quad.y, v[i + 2] = quad.z, v[i + 3] = quad.w;
  }
}

// Shifts "negative" into a word from the right: one funnel shift.
__device__ inline uint32_t push_sign(uint32_t word, float v) { return word << 1 | __float_as_uint(v) >> 31; }

}  // namespace yoso::cuda
