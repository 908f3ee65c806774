// One warp's matrix products on the tensor cores: C[16, 16] += A[16, 16] B[16, 16], with fragments from shared memory.
//
// Product<T> serves bfloat16, float16 (mma.m16n8k16) and float32 (mma.m16n8k8 on TF32, three products for one).
// Fragment layouts are those of the PTX ISA, "Matrix fragments for mma.m16n8k16" and "... mma.m16n8k8". With g = lane /
// 4 and t = lane % 4, a lane holds
//   C [16, 8]   x[0], x[1]: row g, columns 2t, 2t + 1;   x[2], x[3]: the same of row g + 8
//   A [16, 16]  x[0]: row g, columns 2t, 2t + 1;  x[1]: row g + 8;  x[2], x[3]: the same of columns + 8
//   B [16, 8]   x[0]: rows 2t, 2t + 1 of column g;  x[1]: rows 2t + 8, 2t + 9
// so that two neighbouring C are, rounded, one A.
//
// All 32 lanes call every function together. The functions in the first half are PTX; without nvcc, twins with the same
// layouts stand in for them. Only the PTX lines themselves (the asm statements and the two address conversions before
// them) are not covered by what the twins prove.
#pragma once

#include "launch.h"

namespace yoso::cuda {

struct Accumulator {
  float x[4];
};

struct FragmentA {
  uint32_t x[4];
};

struct FragmentB {
  uint32_t x[2];
};

#ifdef __CUDACC__

__device__ inline void multiply_add(Accumulator& c, const FragmentA& a, const FragmentB& b, __nv_bfloat16) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

__device__ inline void multiply_add(Accumulator& c, const FragmentA& a, const FragmentB& b, __half) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

// TF32: A [16, 8] x[0], x[1]: column t of rows g, g + 8; x[2], x[3]: column t + 4. B [8, 8] x: rows t, t + 4.
__device__ inline void multiply_add(Accumulator& c, const FragmentA& a, const FragmentB& b, float) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

// Four 8 x 8 matrices of 16-bit elements: lane 8 i + r points to row r (16 aligned bytes of shared memory) of matrix i,
// and x[i] becomes elements 2t, 2t + 1 of row g; transposed: elements g of rows 2t, 2t + 1.
template <bool kTransposed>
__device__ inline void load_matrices(uint32_t (&x)[4], const void* row) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address));
  }
}

// Starts copying 16 aligned bytes to shared memory, or zeros if not `real`: then nothing is read.
__device__ inline void copy_async(void* shared, const void* global, bool real) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(real ? 16 : 0)
               : "memory");
}

// Waits for this thread's copies; __syncthreads() then shows everyone's to everyone.
__device__ inline void wait_for_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

__device__ inline uint32_t pack(float low, float high, __nv_bfloat16) {
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

__device__ inline uint32_t pack(float low, float high, __half) {
  uint32_t both;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

__device__ inline uint32_t float_bits(float x) { return __float_as_uint(x); }
__device__ inline float float_of_bits(uint32_t x) { return __uint_as_float(x); }

// NaN stays NaN, where fmaxf drops it.
__device__ inline float larger_or_nan(float x, float y) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(x), "f"(y));
  return larger;
}

// One instruction each, to about one unit in the last place; subnormal x counts as 0.
__device__ inline float approximate_sqrt(float x) {
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

__device__ inline float approximate_rsqrt(float x) {
  float root;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

#else
#include "mma_twin.h"
#endif

// The product of a 16 x 16 and a 16 x 16 tile for elements of type T.
template <typename T>
struct Product {
  struct A {
    FragmentA fragment;
  };
  struct B {
    FragmentB half[2];  // columns 0 to 7, 8 to 15
  };

  // A = tile[row][column]. A tile's rows start at 16 aligned bytes, `stride` elements apart.
  __device__ static A load_a(const T* tile, int stride) {
    const int lane = threadIdx.x % kWarp, matrix = lane / 8;
    A a;
    load_matrices<false>(a.fragment.x, tile + (matrix % 2 * 8 + lane % 8) * stride + matrix / 2 * 8);
    return a;
  }

  // B = the transpose of tile: B[k][n] = tile[n][k].
  __device__ static B load_b_of_rows(const T* tile, int stride) {
    const int lane = threadIdx.x % kWarp, matrix = lane / 8;
    uint32_t x[4];
    load_matrices<false>(x, tile + (matrix / 2 * 8 + lane % 8) * stride + matrix % 2 * 8);
    return {{{{x[0], x[1]}}, {{x[2], x[3]}}}};
  }

  // B[k][n] = tile[k][n].
  __device__ static B load_b_of_columns(const T* tile, int stride) {
    const int lane = threadIdx.x % kWarp, matrix = lane / 8;
    uint32_t x[4];
    load_matrices<true>(x, tile + (matrix % 2 * 8 + lane % 8) * stride + matrix / 2 * 8);
    return {{{{x[0], x[1]}}, {{x[2], x[3]}}}};
  }

  // The [16, 16] that two accumulators hold, rounded to T.
  __device__ static A a_of(const Accumulator (&c)[2]) {
    return {{{pack(c[0].x[0], c[0].x[1], T()), pack(c[0].x[2], c[0].x[3], T()), pack(c[1].x[0], c[1].x[1], T()),
              pack(c[1].x[2], c[1].x[3], T())}}};
  }

  __device__ static void add(Accumulator (&c)[2], const A& a, const B& b) {
    multiply_add(c[0], a.fragment, b.half[0], T());
    multiply_add(c[1], a.fragment, b.half[1], T());
  }
};

// A float is split into two TF32 numbers of 11 bits, x = big + small up to 2^-22 |x|; small * small is left out.
// Within a product the order of k is free as long as A and B agree: "column t, t + 4" of TF32's layout is taken to be
// columns 2t, 2t + 1, so that accumulators become A without moving between lanes.
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

  __device__ static B load_b_of_rows(const float* tile, int stride) {
    const float* start = tile + threadIdx.x % kWarp / 4 * stride + threadIdx.x % 4 * 2;
    return b_of([&](int k, int half) { return load_pair(start + half * 8 * stride + k * 8); });
  }

  __device__ static B load_b_of_columns(const float* tile, int stride) {
    const float* start = tile + threadIdx.x % 4 * 2 * stride + threadIdx.x % kWarp / 4;
    return b_of([&](int k, int half) {
      const float* pair = start + k * 8 * stride + half * 8;
      return make_float2(pair[0], pair[stride]);
    });
  }

  __device__ static A a_of(const Accumulator (&c)[2]) {
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

  // Tensor cores truncate as they accumulate: a long sum of theirs would drift towards zero. So they form short sums,
  // and these are added with rounding. The barrier is for the compiler alone: it would otherwise read shared memory so
  // far ahead that registers spill.
  __device__ static void add(Accumulator (&c)[2], const A& a, const B& b) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        Accumulator sum = {{0, 0, 0, 0}};
        multiply_add(sum, a.small[k], b.big[k][half], 0.0f);
        multiply_add(sum, a.big[k], b.small[k][half], 0.0f);
        multiply_add(sum, a.big[k], b.big[k][half], 0.0f);
#pragma unroll
        for (int i = 0; i < 4; ++i) c[half].x[i] += sum.x[i];
      }
      __syncwarp();
    }
  }

 private:
  // Rounded, not cut off: what is left out is four times smaller.
  __device__ static void split(float x, uint32_t& big, uint32_t& small) {
    constexpr uint32_t kTf32 = 0xffffe000u, kHalfUnit = 0x1000u;
    big = (float_bits(x) + kHalfUnit) & kTf32;
    small = (float_bits(x - float_of_bits(big)) + kHalfUnit) & kTf32;
  }

  __device__ static float2 load_pair(const float* x) { return *reinterpret_cast<const float2*>(x); }

  // pairs(k, half): rows 8 k + 2 t, 8 k + 2 t + 1 of column 8 half + g.
  template <typename F>
  __device__ static B b_of(F pairs) {
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
