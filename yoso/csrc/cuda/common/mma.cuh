// One warp's matrix products on the tensor cores: C[16, 16] += A[16, 16] B[16, 16], with fragments from shared memory.
//
// Product<T> supports bfloat16, float16 (mma.m16n8k16) and float32 (mma.m16n8k8 on TF32, three instructions for one
// product). All 32 lanes of a warp call every function together; mma_ptx.cuh documents which lane holds which elements.
#pragma once

#include "elements.cuh"
#include "mma_ptx.cuh"

namespace yoso::cuda {

// The product of a 16 x 16 and a 16 x 16 tile for elements of type T.
template <typename T>
struct Product {
  struct A {
    FragmentA fragment;
  };
  struct B {
    FragmentB half[2];  // columns 0 to 7, 8 to 15
  };

  // A[m][k] = tile[m][k]. Here and below, a tile's rows are aligned to 16 bytes and `stride` elements apart.
  __device__ static A load_a(const T* tile, int stride) {
    const int lane = threadIdx.x % kWarp, matrix = lane / 8;
    A a;
    load_matrices<false>(a.fragment.x, tile + (matrix % 2 * 8 + lane % 8) * stride + matrix / 2 * 8);
    return a;
  }

  // A[m][k] = tile[k][m].
  __device__ static A load_a_transposed(const T* tile, int stride) {
    const int lane = threadIdx.x % kWarp, matrix = lane / 8;
    A a;
    load_matrices<true>(a.fragment.x, tile + (matrix / 2 * 8 + lane % 8) * stride + matrix % 2 * 8);
    return a;
  }

  // B[k][n] = tile[n][k].
  __device__ static B load_b_transposed(const T* tile, int stride) {
    return load_b_transposed_at(tile + b_transposed_lane_offset(stride), stride);
  }

  // B[k][n] = tile[k][n].
  __device__ static B load_b(const T* tile, int stride) { return load_b_at(tile + b_lane_offset(stride), stride); }

  // The same in two steps, for loops that compute the lane's offset within a tile once: load_b(tile, stride) is
  // load_b_at(tile + b_lane_offset(stride), stride).
  __device__ static int b_transposed_lane_offset(int stride) {
    const int lane = threadIdx.x % kWarp, matrix = lane / 8;
    return (matrix / 2 * 8 + lane % 8) * stride + matrix % 2 * 8;
  }

  __device__ static int b_lane_offset(int stride) {
    const int lane = threadIdx.x % kWarp, matrix = lane / 8;
    return (matrix % 2 * 8 + lane % 8) * stride + matrix / 2 * 8;
  }

  __device__ static B load_b_transposed_at(const T* lane_start, int /*stride*/) {
    uint32_t x[4];
    load_matrices<false>(x, lane_start);
    return {{{{x[0], x[1]}}, {{x[2], x[3]}}}};
  }

  __device__ static B load_b_at(const T* lane_start, int /*stride*/) {
    uint32_t x[4];
    load_matrices<true>(x, lane_start);
    return {{{{x[0], x[1]}}, {{x[2], x[3]}}}};
  }

  // The [16, 16] matrix that two accumulators hold, rounded to T.
  __device__ static A to_a(const Accumulator (&c)[2]) {
    return {{{pack(c[0].x[0], c[0].x[1], T()), pack(c[0].x[2], c[0].x[3], T()), pack(c[1].x[0], c[1].x[1], T()),
              pack(c[1].x[2], c[1].x[3], T())}}};
  }

  // The error of that rounding, rounded to T as well: together they hold the accumulators to twice T's bits.
  __device__ static A rounding_error_of(const Accumulator (&c)[2], const A& rounded) {
    Accumulator remainder[2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float pair[2];
      to_floats(rounded.fragment.x[i], pair, static_cast<const T*>(nullptr));
      const float* exact = &c[i / 2].x[i % 2 * 2];
      remainder[i / 2].x[i % 2 * 2] = exact[0] - pair[0];
      remainder[i / 2].x[i % 2 * 2 + 1] = exact[1] - pair[1];
    }
    return to_a(remainder);
  }

  // c += a b.
  __device__ static void multiply_add(Accumulator (&c)[2], const A& a, const B& b) {
    mma(c[0], a.fragment, b.half[0], T());
    mma(c[1], a.fragment, b.half[1], T());
  }
};

// Splits a float into two TF32 numbers of 11 bits, x = big + small up to 2^-22 |x|; small * small is left out.
// The order of k within a product is free as long as A and B agree: columns t and t + 4 of TF32's fragment layout hold
// columns 2t and 2t + 1 of the tile, so that accumulators become A without moving data between lanes.
template <>
struct Product<float> {
  struct A {
    FragmentA big[2], small[2];  // columns 0 to 7, 8 to 15
  };
  struct B {
    FragmentB big[2][2], small[2][2];  // [rows 0 to 7, 8 to 15][columns 0 to 7, 8 to 15]
  };

  __device__ static A load_a(const float* tile, int stride) {
    const int lane = threadIdx.x % kWarp;
    A a;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 pair = load_pair(tile + (lane / 4 + half * 8) * stride + k * 8 + lane % 4 * 2);
        split(pair.x, a.big[k].x[half], a.small[k].x[half]);
        split(pair.y, a.big[k].x[half + 2], a.small[k].x[half + 2]);
      }
    }
    return a;
  }

  __device__ static A load_a_transposed(const float* tile, int stride) {
    const float* start = tile + threadIdx.x % 4 * 2 * stride + threadIdx.x % kWarp / 4;
    A a;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float* pair = start + k * 8 * stride + half * 8;
        split(pair[0], a.big[k].x[half], a.small[k].x[half]);
        split(pair[stride], a.big[k].x[half + 2], a.small[k].x[half + 2]);
      }
    }
    return a;
  }

  __device__ static B load_b_transposed(const float* tile, int stride) {
    return load_b_transposed_at(tile + b_transposed_lane_offset(stride), stride);
  }

  __device__ static B load_b(const float* tile, int stride) { return load_b_at(tile + b_lane_offset(stride), stride); }

  __device__ static int b_transposed_lane_offset(int stride) {
    return threadIdx.x % kWarp / 4 * stride + threadIdx.x % 4 * 2;
  }

  __device__ static int b_lane_offset(int stride) { return threadIdx.x % 4 * 2 * stride + threadIdx.x % kWarp / 4; }

  __device__ static B load_b_transposed_at(const float* lane_start, int stride) {
    return make_b([&](int k, int half) { return load_pair(lane_start + half * 8 * stride + k * 8); });
  }

  __device__ static B load_b_at(const float* lane_start, int stride) {
    return make_b([&](int k, int half) {
      const float* pair = lane_start + k * 8 * stride + half * 8;
      return make_float2(pair[0], pair[stride]);
    });
  }

  __device__ static A to_a(const Accumulator (&c)[2]) {
    A a;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        split(c[k].x[2 * half], a.big[k].x[half], a.small[k].x[half]);
        split(c[k].x[2 * half + 1], a.big[k].x[half + 2], a.small[k].x[half + 2]);
      }
    }
    return a;
  }

  // c += a b. Tensor cores truncate as they accumulate, so a long sum on them would drift towards zero. They form short
  // sums here, which are added with rounding. The __syncwarp is needed only for the compiler: without it, loads from
  // shared memory are moved so far ahead that registers spill.
  __device__ static void multiply_add(Accumulator (&c)[2], const A& a, const B& b) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        Accumulator sum = {{0, 0, 0, 0}};
        mma(sum, a.small[k], b.big[k][half], 0.0f);
        mma(sum, a.big[k], b.small[k][half], 0.0f);
        mma(sum, a.big[k], b.big[k][half], 0.0f);
#pragma unroll
        for (int i = 0; i < 4; ++i) c[half].x[i] += sum.x[i];
      }
      __syncwarp();
    }
  }

 private:
  // The big part is rounded, the small part truncated: rounding adds to the bits, which turns a device's NaN,
  // 0x7fffffff, into a zero. That happens to the big part, and the truncated small part keeps the NaN.
  __device__ static void split(float x, uint32_t& big, uint32_t& small) {
    constexpr uint32_t kTf32 = 0xffffe000u, kHalfUnit = 0x1000u;
    big = (float_bits(x) + kHalfUnit) & kTf32;
    small = float_bits(x - float_of_bits(big)) & kTf32;
  }

  __device__ static float2 load_pair(const float* x) { return *reinterpret_cast<const float2*>(x); }

  // pairs(k, half) returns rows 8 k + 2 t and 8 k + 2 t + 1 of column 8 half + g.
  template <typename F>
  __device__ static B make_b(F pairs) {
    B b;
#pragma unroll
    for (int k = 0; k < 2; ++k) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 pair = pairs(k, half);
        split(pair.x, b.big[k][half].x[0], b.small[k][half].x[0]);
        split(pair.y, b.big[k][half].x[1], b.small[k][half].x[1]);
      }
    }
    return b;
  }
};

}  // namespace yoso::cuda
