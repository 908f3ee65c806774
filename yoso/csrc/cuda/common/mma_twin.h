// The functions of mma_ptx.cuh in plain C++, for kernels that run on the host shim: the same fragments in the same
// lanes. Included by mma_ptx.cuh, inside its namespace. Lanes exchange data through shared memory, many words at a
// time, because one shuffle per word would be ten times slower on the shim.
#pragma once

constexpr int kTwinWarps = 32;  // the most warps of a CTA

template <typename T>
__device__ inline T bits_to(const void* bits) {
  T x;
  memcpy(&x, bits, sizeof(T));
  return x;
}

// A device produces these bits for every NaN that it computes.
__device__ inline uint32_t float_bits(float x) { return x == x ? bits_to<uint32_t>(&x) : 0x7fffffffu; }
__device__ inline float float_of_bits(uint32_t x) { return bits_to<float>(&x); }

__device__ inline float max_or_nan(float x, float y) { return x < y || y != y ? y : x; }
__device__ inline float approximate_sqrt(float x) { return sqrtf(x); }
__device__ inline float approximate_rsqrt(float x) { return 1 / sqrtf(x); }

__device__ inline float element(uint32_t pair, int which, __nv_bfloat16) {
  const uint16_t bits = static_cast<uint16_t>(pair >> 16 * which);
  return __bfloat162float(bits_to<__nv_bfloat16>(&bits));
}

__device__ inline float element(uint32_t pair, int which, __half) {
  const uint16_t bits = static_cast<uint16_t>(pair >> 16 * which);
  return __half2float(bits_to<__half>(&bits));
}

__device__ inline uint32_t pack(float low, float high, __nv_bfloat16) {
  const __nv_bfloat16 both[2] = {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
  return bits_to<uint32_t>(both);
}

__device__ inline uint32_t pack(float low, float high, __half) {
  const __half both[2] = {__float2half_rn(low), __float2half_rn(high)};
  return bits_to<uint32_t>(both);
}

struct TwinFragments {
  uint32_t a[4], b[2];
};

// Returns the fragments of every lane, at [lane]. The barrier at the start keeps a warp's next call from overwriting
// them before all lanes have read.
__device__ inline const TwinFragments* exchange(const FragmentA& a, const FragmentB& b) {
  __shared__ TwinFragments all[kTwinWarps][kWarp];
  const int lane = threadIdx.x % kWarp;
  TwinFragments* own_warp = all[threadIdx.x / kWarp];
  __syncwarp();
  memcpy(own_warp[lane].a, a.x, sizeof a.x);
  memcpy(own_warp[lane].b, b.x, sizeof b.x);
  __syncwarp();
  return own_warp;
}

template <typename T>
__device__ inline void mma(Accumulator& c, const FragmentA& a, const FragmentB& b, T) {
  const TwinFragments* lanes = exchange(a, b);
  const int g = threadIdx.x % kWarp / 4, t = threadIdx.x % kWarp % 4;
  for (int i = 0; i < 4; ++i) {
    const int row_half = i / 2, column = 2 * t + i % 2;
    float sum = c.x[i];
    for (int k = 0; k < 16; ++k) {
      const int k_half = k / 8, owner = k % 8 / 2;
      sum += element(lanes[4 * g + owner].a[2 * k_half + row_half], k % 2, T()) *
             element(lanes[4 * column + owner].b[k_half], k % 2, T());
    }
    c.x[i] = sum;
  }
}

__device__ inline void mma(Accumulator& c, const FragmentA& a, const FragmentB& b, float) {
  const TwinFragments* lanes = exchange(a, b);
  const int g = threadIdx.x % kWarp / 4, t = threadIdx.x % kWarp % 4;
  for (int i = 0; i < 4; ++i) {
    const int row_half = i / 2, column = 2 * t + i % 2;
    float sum = c.x[i];
    for (int k = 0; k < 8; ++k) {
      const int k_half = k / 4, owner = k % 4;
      sum += float_of_bits(lanes[4 * g + owner].a[2 * k_half + row_half]) *
             float_of_bits(lanes[4 * column + owner].b[k_half]);
    }
    c.x[i] = sum;
  }
}

template <bool kTransposed>
__device__ inline void load_matrices(uint32_t (&x)[4], const void* row) {
  __shared__ const uint16_t* all[kTwinWarps][kWarp];
  const int lane = threadIdx.x % kWarp, g = lane / 4, t = lane % 4;
  const uint16_t** rows = all[threadIdx.x / kWarp];
  __syncwarp();
  rows[lane] = static_cast<const uint16_t*>(row);
  __syncwarp();
  for (int i = 0; i < 4; ++i) {
    const uint32_t low = kTransposed ? rows[8 * i + 2 * t][g] : rows[8 * i + g][2 * t];
    const uint32_t high = kTransposed ? rows[8 * i + 2 * t + 1][g] : rows[8 * i + g][2 * t + 1];
    x[i] = low | high << 16;
  }
}

__device__ inline void copy_async(void* shared, const void* global, bool real) {
  cuda_shim::start_copy(shared, global, real);
}

__device__ inline void commit_copy_group() { cuda_shim::commit_copy_group(); }
template <int kPending>
__device__ inline void wait_for_copy_groups() {
  cuda_shim::wait_for_copy_groups(kPending);
}
__device__ inline void wait_for_all_copies() { cuda_shim::wait_for_all_copies(); }
