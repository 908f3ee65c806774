// hash_family "hadamard_authors": the bits of a code are neighbouring coordinates of H D3 H D2 H D1 x; each rotation
// gives plane_dim / hash_code_len codes.
//
// The vectors stay in shared memory and every rotation starts from them. Its signs, one bit a coordinate, go through
// shared memory too, since a code may begin in one lane and end in the next.
#include "hash_rotation.cuh"

namespace yoso::cuda {
namespace {

constexpr int kMaxWarps = 4;
constexpr int kRounds = 3;

// Words that hold a vector's signs, and one more, so that reading two neighbours stays inside.
template <typename Shape>
constexpr int kSignWords = Shape::kDim / 32 + 1;

template <typename Shape>
__global__ void __launch_bounds__(kMaxWarps* kWarp, 4) hash_authors_kernel(HashParams p, uint32_t blocks_per_head) {
  constexpr int kRow = Shape::kLanes * Shape::kPitch, kWords = Shape::kElements / 32;
  const int warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp, lane = threadIdx.x % Shape::kLanes;
  const int vector_of_warp = threadIdx.x % kWarp / Shape::kLanes;
  float* factors = dynamic_shared<float>();
  float* tile = factors + kRounds * kRow + warp * (kWarp * Shape::kPitch);
  auto* signs = reinterpret_cast<uint32_t*>(factors + kRounds * kRow + warps * (kWarp * Shape::kPitch)) +
                (warp * Shape::kVectors + vector_of_warp) * kSignWords<Shape>;
  const float* own_factors = factors + lane * Shape::kPitch;

  const uint32_t head = blockIdx.x / blocks_per_head, block = blockIdx.x % blocks_per_head;
  const int64_t first = (int64_t{block} * warps + warp) * Shape::kVectors;
  const int8_t* plane = static_cast<const int8_t*>(p.planes) + int64_t{head % p.groups} * p.plane_rows * p.plane_dim;
  const int64_t vector = first + vector_of_warp;
  uint16_t* codes = p.codes + int64_t{head} * p.num_hash * p.length + vector;
  const int per_rotation = p.plane_dim / p.hash_code_len;
  const uint32_t mask = (1u << p.hash_code_len) - 1;

  load_vectors<Shape>(p, head, first, tile);
  if (lane == 0) signs[kSignWords<Shape> - 1] = 0;
#pragma unroll 1
  for (int hash = 0; hash < p.num_hash; hash += per_rotation, plane += kRounds * p.plane_dim) {
    __syncthreads();
    stage_factors<Shape>(plane, kRounds - 1, p.plane_dim, false, 0, factors);
    stage_factors<Shape>(plane + (kRounds - 1) * p.plane_dim, 1, p.plane_dim, true, 0, factors + (kRounds - 1) * kRow);
    __syncthreads();
    float v[Shape::kElements];
    read_elements<Shape>(tile, v);
#pragma unroll 1
    for (int round = 0; round < kRounds; ++round) rotate<Shape>(v, own_factors + round * kRow, v);
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
      uint32_t word = 0;
#pragma unroll
      for (int i = 31; i >= 0; --i) word = push_sign(word, v[w * 32 + i]);
      signs[lane * kWords + w] = word;
    }
    __syncwarp();
    const int count = min(per_rotation, p.num_hash - hash);
    for (int i = lane; i < count && vector < p.length; i += Shape::kLanes) {
      const int bit = i * p.hash_code_len, word = bit / 32;
      const uint32_t code = __funnelshift_r(signs[word], signs[word + 1], bit % 32) & mask;
      codes[(hash + i) * p.length] = static_cast<uint16_t>(code);
    }
  }
}

template <int kDim, int kLanes>
cudaError_t launch_shape(const HashParams& p, cudaStream_t stream) {
  using Shape = RotationShape<kDim, kLanes, false>;
  const int64_t needed = (p.length + Shape::kVectors - 1) / Shape::kVectors;
  const int64_t warps = needed > 2 ? kMaxWarps : needed;  // a power of two
  const auto blocks_per_head = static_cast<uint32_t>((needed + warps - 1) / warps);
  const size_t words = (kRounds * kLanes + warps * kWarp) * Shape::kPitch + warps * Shape::kVectors * kSignWords<Shape>;
  return launch(hash_authors_kernel<Shape>, dim3(p.num_heads * blocks_per_head),
                dim3(static_cast<unsigned>(warps * kWarp)), words * sizeof(float), stream, p, blocks_per_head);
}

}  // namespace

cudaError_t launch_hash_hadamard_authors(const HashParams& p, cudaStream_t stream) {
  if (p.plane_dim <= 32) return launch_shape<32, 1>(p, stream);
  if (p.plane_dim == 64) return launch_shape<64, 1>(p, stream);
  if (p.plane_dim == 128) return launch_shape<128, 2>(p, stream);
  return launch_shape<256, 4>(p, stream);
}

}  // namespace yoso::cuda
