// hash_family "hadamard": bit t of hash h is coordinate h of H D_t (H D2 H D1 x).
//
// One to four lanes a vector keep y = H D2 H D1 x in registers. Hashes are taken in chunks of kOutputs: only that many
// results of H D_t are wanted, so its first stages fold y to kOutputs values. A code grows by one bit a round in a
// register and is stored once.
#include "hash_rotation.cuh"

namespace yoso::cuda {
namespace {

constexpr int kMaxWarps = 4;

template <typename Shape, int kOutputs>
__global__ void __launch_bounds__(kMaxWarps* kWarp, 3) hash_hadamard_kernel(HashParams p, uint32_t blocks_per_head) {
  constexpr int kRow = Shape::kLanes * Shape::kPitch, kResults = kOutputs / Shape::kLanes;
  const int warps = blockDim.x / kWarp, warp = threadIdx.x / kWarp, lane = threadIdx.x % Shape::kLanes;
  float* tile = dynamic_shared<float>() + warp * (kWarp * Shape::kPitch);
  float* factors = dynamic_shared<float>() + warps * (kWarp * Shape::kPitch);
  const float* own_factors = factors + lane * Shape::kPitch;

  const uint32_t head = blockIdx.x / blocks_per_head, block = blockIdx.x % blocks_per_head;
  const int64_t first = (int64_t{block} * warps + warp) * Shape::kVectors;
  const int8_t* plane = static_cast<const int8_t*>(p.planes) + int64_t{head % p.groups} * p.plane_rows * p.plane_dim;
  const int64_t vector = first + threadIdx.x % kWarp / Shape::kLanes;
  uint16_t* codes = p.codes + int64_t{head} * p.num_hash * p.length + vector;

  load_vectors<Shape>(p, head, first, tile);
  stage_factors<Shape>(plane, 2, p.plane_dim, false, 0, factors);
  __syncthreads();
  float y[Shape::kElements];
  read_elements<Shape>(tile, y);
#pragma unroll 1
  for (int round = 0; round < 2; ++round) rotate<Shape>(y, own_factors + round * kRow, y);

  const int chunk_hashes = min(kOutputs, p.plane_dim), chunks_per_rotation = p.plane_dim / chunk_hashes;
#pragma unroll 1
  for (int chunk = 0; chunk * chunk_hashes < p.num_hash; ++chunk) {
    const int64_t rotation = chunk / chunks_per_rotation;
    __syncthreads();
    stage_factors<Shape>(plane + (2 + rotation * p.hash_code_len) * p.plane_dim, p.hash_code_len, p.plane_dim, true,
                         chunk % chunks_per_rotation * chunk_hashes, factors);
    __syncthreads();
    uint32_t code[kResults] = {};
#pragma unroll 1
    for (int t = p.hash_code_len - 1; t >= 0; --t) {
      float projection[kResults];
      rotate<Shape>(y, own_factors + t * kRow, projection);
#pragma unroll
      for (int i = 0; i < kResults; ++i) code[i] = push_sign(code[i], projection[i]);
    }
    if (vector < p.length) {
      const int limit = min(chunk_hashes, p.num_hash - chunk * chunk_hashes);
      uint16_t* to = codes + (int64_t{chunk} * chunk_hashes + lane * 4) * p.length;
#pragma unroll
      for (int i = 0; i < kResults; ++i) {
        if (Shape::coordinate(lane, i) < limit) *to = static_cast<uint16_t>(code[i]);
        to += i % 4 < 3 ? p.length : (4 * Shape::kLanes - 3) * p.length;
      }
    }
  }
}

template <int kDim, int kLanes, int kOutputs>
cudaError_t launch_shape(const HashParams& p, cudaStream_t stream) {
  using Shape = RotationShape<kDim, kLanes, true>;
  const int64_t needed = (p.length + Shape::kVectors - 1) / Shape::kVectors;
  const int64_t warps = needed > 2 ? kMaxWarps : needed;  // a power of two
  const auto blocks_per_head = static_cast<uint32_t>((needed + warps - 1) / warps);
  const int rows = p.hash_code_len > 2 ? p.hash_code_len : 2;
  const size_t floats = (warps * kWarp + rows * kLanes) * Shape::kPitch;
  return launch(hash_hadamard_kernel<Shape, kOutputs>, dim3(p.num_heads * blocks_per_head),
                dim3(static_cast<unsigned>(warps * kWarp)), floats * sizeof(float), stream, p, blocks_per_head);
}

template <int kOutputs>
cudaError_t launch_outputs(const HashParams& p, cudaStream_t stream) {
  if (p.plane_dim <= 32) return launch_shape<32, 1, kOutputs>(p, stream);
  if (p.plane_dim == 64) return launch_shape<64, 1, kOutputs>(p, stream);
  if (p.plane_dim == 128) return launch_shape<128, 2, kOutputs>(p, stream);
  return launch_shape<256, 4, kOutputs>(p, stream);
}

}  // namespace

cudaError_t launch_hash_hadamard(const HashParams& p, cudaStream_t stream) {
  return p.num_hash <= 16 ? launch_outputs<16>(p, stream) : launch_outputs<32>(p, stream);
}

}  // namespace yoso::cuda
