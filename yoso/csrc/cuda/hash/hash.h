// The interface of fast_hash, which computes hash codes. Families and planes are defined in yoso/ops/hashing.py.
#pragma once

#include "../common/launch.h"

namespace yoso::cuda {

enum class HashFamily : int32_t { kGaussian, kHadamard, kHadamardAuthors };

// Strides and sizes are in elements.
struct HashParams {
  Rows x;  // [num_heads / heads_per_sequence, heads_per_sequence, length, dim], each row whole vectors of 16 bytes
  Dtype dtype;
  uint32_t num_heads, heads_per_sequence;  // 32 bits, because a 64-bit division takes 100 instructions
  int64_t length;
  int dim;  // at most 256

  HashFamily family;
  const void* planes;  // contiguous [groups, plane_rows, plane_dim]: int8 signs of a Hadamard family, float32 Gaussian
  uint32_t groups;
  int64_t plane_rows;
  int plane_dim;  // the head dim; for a Hadamard family, a power of two from the head dim to 256

  int num_hash, hash_code_len;  // hash_code_len at most 16
  uint16_t* codes;              // contiguous [num_heads, num_hash, length]

  // The offset of a head's first vector from x, in elements.
  __host__ __device__ int64_t head_offset(uint32_t head) const {
    return head / heads_per_sequence * x.stride_batch + head % heads_per_sequence * x.stride_head;
  }
};

// No size may be 0; num_heads * ceil(length / 8) and groups * (num_hash + 7) * hash_code_len must be below 2^31.
// `workspace` has hash_workspace_bytes(params) bytes, at most 32 MiB, and is aligned to 16. If the directions of all
// planes do not fit into it, the groups of planes are processed in several launches.
cudaError_t launch_hash(const HashParams& params, void* workspace, cudaStream_t stream);
int64_t hash_workspace_bytes(const HashParams& params);

}  // namespace yoso::cuda
