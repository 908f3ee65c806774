// The PTX instructions that the kernels use, one function each: matrix products, fragment loads, asynchronous copies,
// packed conversions and approximate roots.
//
// Fragment layouts are those of the PTX ISA, "Matrix fragments for mma.m16n8k16" and "... mma.m16n8k8". With g = lane /
// 4 and t = lane % 4, a lane holds
//   C [16, 8]   x[0], x[1]: row g, columns 2t, 2t + 1;   x[2], x[3]: the same columns of row g + 8
//   A [16, 16]  x[0]: row g, columns 2t, 2t + 1;  x[1]: the same of row g + 8;  x[2], x[3]: the same, columns + 8
//   B [16, 8]   x[0]: rows 2t, 2t + 1 of column g;  x[1]: rows 2t + 8, 2t + 9
// so that two neighbouring C tiles, rounded, are one A tile in the same lanes.
//
// mma and load_matrices are warp-wide: all 32 lanes call them together. Without nvcc, the emulation in mma_twin.h, with
// the same layouts, replaces all of these functions. Tests on the host shim therefore cover everything except the asm
// statements and the address conversions before them.
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

// c += a b, by one tensor core instruction; the last argument selects the element type.
__device__ inline void mma(Accumulator& c, const FragmentA& a, const FragmentB& b, __nv_bfloat16) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

__device__ inline void mma(Accumulator& c, const FragmentA& a, const FragmentB& b, __half) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

// TF32: A [16, 8] x[0], x[1]: column t of rows g, g + 8; x[2], x[3]: column t + 4. B [8, 8] x: rows t, t + 4.
__device__ inline void mma(Accumulator& c, const FragmentA& a, const FragmentB& b, float) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c.x[0]), "+f"(c.x[1]), "+f"(c.x[2]), "+f"(c.x[3])
      : "r"(a.x[0]), "r"(a.x[1]), "r"(a.x[2]), "r"(a.x[3]), "r"(b.x[0]), "r"(b.x[1]));
}

// Loads four 8 x 8 matrices of 16-bit elements from shared memory: lane 8 i + r points to row r (16 aligned bytes) of
// matrix i, and x[i] becomes elements 2t, 2t + 1 of row g; transposed: element g of rows 2t, 2t + 1.
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

// Starts copying 16 aligned bytes from global to shared memory. If not `real`, it writes zeros and reads nothing.
__device__ inline void copy_async(void* shared, const void* global, bool real) {
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global), "r"(real ? 16 : 0)
               : "memory");
}

// Commits the copies that this thread has started since its last commit as one group, which may be empty.
__device__ inline void commit_copy_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most the kPending newest of this thread's committed groups are still in flight.
template <int kPending>
__device__ inline void wait_for_copy_groups() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Waits for all of this thread's copies, committed or not. Other threads may read the data after a barrier that
// follows; the same holds for wait_for_copy_groups.
__device__ inline void wait_for_all_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// Rounds two floats to a 16-bit type; `low` goes to the low half of the word.
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

// The larger of two numbers, or NaN if either is NaN; fmaxf would return the number.
__device__ inline float max_or_nan(float x, float y) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(x), "f"(y));
  return larger;
}

// One instruction each, accurate to about one unit in the last place; a subnormal x counts as 0.
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

}  // namespace yoso::cuda
