// Correct kernels, and kernels with one fault each, to test the shim with: `kernels CASE [ORDER]`.
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

#include "../../../yoso/csrc/cuda/common/launch.h"

using yoso::cuda::dynamic_shared;
using yoso::cuda::kWholeWarp;
using yoso::cuda::launch;

namespace {

__global__ void collectives(int* out) {
  const int lane = threadIdx.x % 32, rank = blockIdx.x * blockDim.x + threadIdx.x;
  int sum = rank;
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, step);
  const int above = __shfl_up_sync(kWholeWarp, rank, 3, 8), below = __shfl_down_sync(kWholeWarp, rank, 3, 8);
  const int first = __shfl_sync(kWholeWarp, rank, 0, 16);
  const unsigned odd = __ballot_sync(kWholeWarp, lane % 2), equal = __match_any_sync(kWholeWarp, lane / 4);
  const int small = __syncthreads_count(threadIdx.x < 5), any = __syncthreads_or(threadIdx.x == 63);
  out[rank] = sum + above * 3 + below * 5 + first * 7 + static_cast<int>(odd % 1000) + static_cast<int>(equal % 1000) +
              small * 11 + any * 13 + __syncthreads_and(lane < 32) * 17;
}

__global__ void reverse_in_shared(int* out) {
  __shared__ int tile[64];
  int* dynamic = dynamic_shared<int>();
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  dynamic[threadIdx.x] = 100;
  __syncthreads();
  out[blockIdx.x * 64 + threadIdx.x] = tile[63 - threadIdx.x] + dynamic[63 - threadIdx.x];
}

__global__ void no_barrier(int* out) {
  __shared__ int tile[64];
  tile[threadIdx.x] = static_cast<int>(threadIdx.x);
  out[blockIdx.x * 64 + threadIdx.x] = tile[63 - threadIdx.x];
}

// Two warps increment one number, with warp barriers between the read and the write, so that warps that take turns
// interleave there. Two barriers, because the last lane to reach a barrier continues without a switch.
__global__ void lost_update(int* out) {
  const int before = out[0];
  __syncwarp();
  __syncwarp();
  out[0] = before + 1;
}

// Every thread waits for the older of two groups of copies. Block 0 reads that group, block 1 the newer one.
__global__ void reads_copies(int* out) {
  __shared__ __align__(16) int tile[2][64][4];
  static const int from[4] = {11, 12, 13, 14};
  for (int group = 0; group < 2; ++group) {
    cuda_shim::start_copy(tile[group][threadIdx.x], from, true);
    cuda_shim::commit_copy_group();
  }
  cuda_shim::wait_for_copy_groups(1);
  out[blockIdx.x * 64 + threadIdx.x] = tile[blockIdx.x][threadIdx.x][3];
}

__global__ void count_with_atomics(int* out) {
  __shared__ int count;
  if (threadIdx.x == 0) count = 0;
  __syncthreads();
  atomicAdd(&count, 1);
  __syncthreads();
  if (threadIdx.x == 0) atomicMax(out, count);
}

__global__ void reads_unwritten_memory(int* out) {
  __shared__ int tile[64];
  if (out[0] > 0) tile[threadIdx.x] = 0;  // never true, but g++ would treat a variable without writes as a constant
  out[blockIdx.x * 64 + threadIdx.x] = threadIdx.x % 2 ? tile[threadIdx.x] : dynamic_shared<int>()[threadIdx.x];
}

__global__ void leaves_before_the_barrier(int*) {
  if (threadIdx.x == 7) return;
  __syncthreads();
}

__global__ void two_barriers(int*) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
}

__global__ void misses_a_lane(int* out) {
  if (threadIdx.x % 32 != 31) out[threadIdx.x] = __shfl_xor_sync(kWholeWarp, 1, 1);
}

__global__ void half_a_warp(int* out) { out[threadIdx.x] = __any_sync(0xffff, 1); }

__global__ void beyond_dynamic_shared(int* out) { out[threadIdx.x] = dynamic_shared<int>()[threadIdx.x + 1]; }

__global__ void beyond_static_shared(int* out) {
  __shared__ int tile[64];
  int* first = tile;
  first[threadIdx.x + out[0] + 1] = 1;
}

__global__ void misaligned(int* out) { out[0] = reinterpret_cast<const int4*>(out + 1 + threadIdx.x)->x; }

using Kernel = void (*)(int*);
const std::map<std::string, Kernel> kCases = {
    {"collectives", collectives},
    {"reverse_in_shared", reverse_in_shared},
    {"no_barrier", no_barrier},
    {"lost_update", lost_update},
    {"reads_copies", reads_copies},
    {"count_with_atomics", count_with_atomics},
    {"reads_unwritten_memory", reads_unwritten_memory},
    {"leaves_before_the_barrier", leaves_before_the_barrier},
    {"two_barriers", two_barriers},
    {"misses_a_lane", misses_a_lane},
    {"half_a_warp", half_a_warp},
    {"beyond_dynamic_shared", beyond_dynamic_shared},
    {"beyond_static_shared", beyond_static_shared},
    {"misaligned", misaligned},
};

// Prints every 16-bit pattern as float, and floats rounded to 16 bits, for comparison with torch.
void print_conversions() {
  for (int bits = 0; bits < 1 << 16; ++bits) {
    const auto pattern = static_cast<unsigned short>(bits);
    const float half = __half2float(__ushort_as_half(pattern));
    const float value = __uint_as_float(static_cast<unsigned>(bits) * 65537u * 3u + 12345u);
    printf("%u %u %u %u %u\n", __float_as_uint(half), __float_as_uint(__bfloat162float(__ushort_as_bfloat16(pattern))),
           __float_as_uint(value), __half_as_ushort(__float2half_rn(value)),
           __bfloat16_as_ushort(__float2bfloat16_rn(value)));
  }
}

void print_limits(int* out) {
  const auto error = [&](dim3 grid, dim3 block, size_t shared) {
    return static_cast<int>(launch(count_with_atomics, grid, block, shared, nullptr, out));
  };
  printf("%d %d %d %d %d %d %d\n", error(1, 1025, 0), error(dim3(1, 65536), 32, 0), error(dim3(1, 1, 65536), 32, 0),
         error(0, 32, 0), error(1, 32, (227 << 10) + 1), error(1, dim3(1, 1, 65), 0), error(1, 1024, 227 << 10));
}

}  // namespace

int main(int, char** arguments) {
  const std::string name = arguments[1];
  std::vector<int> out(128, 0);
  if (name == "conversions") return print_conversions(), 0;
  if (name == "limits") return print_limits(out.data()), 0;
  cuda_shim::set_order(strtoul(arguments[2], nullptr, 10));
  try {
    launch(kCases.at(name), dim3(2), dim3(64), 64 * sizeof(int), nullptr, out.data());
  } catch (const std::exception& error) {
    return printf("%s\n", error.what()), 3;
  }
  for (int value : out) printf("%d ", value);
  return 0;
}
