// fast_hash: hashes sixteen vectors at a time with the chosen hash family.
#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/exp2.h>
#include <ATen/ops/frexp.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

constexpr int64_t kVectorsPerTask = 256;

// shared_rounds to outputs are for the Hadamard families; see HadamardHash.
struct HashSizes {
  int64_t groups, num_hash, hash_code_len, dim, padded_dim, shared_rounds, blocks, block_rounds, outputs;
  bool gaussian;
};

HashSizes check_sizes(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
                      const std::string& family) {
  check_floating(x, "x");
  check_hash_code_len(hash_code_len);
  const bool gaussian = family == "gaussian", authors = family == "hadamard_authors";
  TORCH_CHECK_VALUE(gaussian || authors || family == "hadamard", "unknown hash_family ", family,
                    "; expected gaussian, hadamard or hadamard_authors");
  TORCH_CHECK_VALUE(
      num_hash > 0 && planes.dim() == 3 && planes.size(0) > 0 && (x.size(0) * x.size(1)) % planes.size(0) == 0,
      "planes do not fit x: expected num_hash of at least 1 and planes [groups, *, *] with groups dividing x's B * H, ",
      "got num_hash ", num_hash, ", planes ", planes.sizes(), " and x ", x.sizes());
  HashSizes s{.groups = planes.size(0),
              .num_hash = num_hash,
              .hash_code_len = hash_code_len,
              .dim = x.size(3),
              .padded_dim = planes.size(2),
              .shared_rounds = authors ? 0 : 2,
              .blocks = 0,
              .block_rounds = authors ? 3 : 1,
              .outputs = 0,
              .gaussian = gaussian};
  if (gaussian) {
    TORCH_CHECK_VALUE(
        planes.scalar_type() == at::kFloat && planes.size(1) == num_hash * hash_code_len && s.padded_dim == s.dim,
        "planes must be float32 [groups, num_hash * hash_code_len, head_dim], got ", planes.scalar_type(), " ",
        planes.sizes());
    return s;
  }
  s.blocks = (planes.size(1) - s.shared_rounds) / s.block_rounds;
  TORCH_CHECK_VALUE(
      planes.scalar_type() == at::kChar && s.padded_dim >= s.dim && (s.padded_dim & (s.padded_dim - 1)) == 0 &&
          s.shared_rounds + s.blocks * s.block_rounds == planes.size(1),
      "planes must be int8 [groups, rounds, padded_dim], padded_dim a power of two of at least head_dim = ", s.dim,
      ", got ", planes.scalar_type(), " ", planes.sizes());
  for (s.outputs = 1; s.outputs < (authors ? s.padded_dim : std::min(num_hash, s.padded_dim));) s.outputs *= 2;
  return s;
}

// HadamardHash::bit_of: the code bit, as hash * 32 + bit, that each coordinate of each block gives. Unused coordinates
// have hash == num_hash.
at::Tensor bit_map(const HashSizes& s, bool authors) {
  at::Tensor map = scratch<int32_t>(s.blocks * s.padded_dim);
  int32_t* bits = map.mutable_data_ptr<int32_t>();
  std::fill_n(bits, s.blocks * s.padded_dim, static_cast<int32_t>(s.num_hash * 32));
  const int64_t hashes_per_block = authors ? s.padded_dim / s.hash_code_len : s.padded_dim;
  TORCH_CHECK_VALUE(hashes_per_block > 0, "hash_code_len ", s.hash_code_len,
                    " exceeds the rotation's size, planes.size(2) = ", s.padded_dim);
  for (int64_t h = 0; h < s.num_hash; ++h) {
    for (int64_t t = 0; t < s.hash_code_len; ++t) {
      const int64_t block = authors ? h / hashes_per_block : h / hashes_per_block * s.hash_code_len + t;
      const int64_t coordinate = authors ? h % hashes_per_block * s.hash_code_len + t : h % hashes_per_block;
      TORCH_CHECK_VALUE(block < s.blocks, "planes have too few rounds for num_hash ", s.num_hash, " and hash_code_len ",
                        s.hash_code_len);
      bits[block * s.padded_dim + coordinate] = static_cast<int32_t>(h * 32 + t);
    }
  }
  return map;
}

// Rows of float64, those outside the range of float32 multiplied by a power of two: no sign of a projection changes.
at::Tensor in_range_of_float(const at::Tensor& x) {
  constexpr double kRange = 60, kMostAtOnce = 1000;  // exponents of two; 2^1074 would overflow
  if (x.numel() == 0) return x;
  const at::Tensor largest = x.detach().abs().amax(-1, /*keepdim=*/true);
  const at::Tensor exponent = std::get<1>(at::frexp(largest)).to(at::kDouble);
  const at::Tensor ordinary = exponent.abs().le(kRange).logical_or(largest.eq(0)).logical_or(largest.isinf());
  return x.mul(at::exp2(-exponent.clamp(-kMostAtOnce, kMostAtOnce)).masked_fill(ordinary, 1.0));
}

}  // namespace

at::Tensor fast_hash(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
                     const std::string& family) {
  const HashSizes s = check_sizes(x, planes, num_hash, hash_code_len, family);
  const int64_t heads = x.size(0) * x.size(1), length = x.size(2);
  at::Tensor codes = at::empty({x.size(0), x.size(1), num_hash, length}, x.options().dtype(at::kUInt16));
  const at::Tensor rows_tensor = as_rows(x.scalar_type() == at::kDouble ? in_range_of_float(x) : x, at::kFloat);
  const at::Tensor factors = planes.to(at::kFloat).contiguous();
  const Rows<float> rows(rows_tensor);
  const at::Tensor bits = s.gaussian ? at::Tensor() : bit_map(s, family == "hadamard_authors");
  uint16_t* out = codes.mutable_data_ptr<uint16_t>();
  const int64_t chunks = (length + kVectorsPerTask - 1) / kVectorsPerTask;

  at::parallel_for(0, heads * chunks, 1, [&](int64_t begin, int64_t end) {
    at::Tensor floats = scratch<float>(3 * s.padded_dim * kLanes), ints = scratch<int32_t>((num_hash + 1) * kLanes);
    float* work = floats.mutable_data_ptr<float>();
    auto* tile_bits = reinterpret_cast<uint32_t*>(ints.mutable_data_ptr<int32_t>());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / chunks, start = task % chunks * kVectorsPerTask, group = head % s.groups;
      const float* group_factors = factors.const_data_ptr<float>() + group * factors.size(1) * factors.size(2);
      for (int64_t first = start; first < std::min(start + kVectorsPerTask, length); first += kLanes) {
        const HashTile tile{.rows = rows.head(head) + first * rows.stride_row,
                            .stride = rows.stride_row,
                            .count = std::min<int64_t>(kLanes, length - first),
                            .dim = s.dim,
                            .padded_dim = s.padded_dim,
                            .work = work,
                            .bits = tile_bits,
                            .codes = out + head * num_hash * length + first,
                            .codes_stride = length,
                            .num_hash = num_hash};
        if (s.gaussian) {
          kernels().hash_gaussian(tile, {group_factors, hash_code_len});
        } else {
          kernels().hash_hadamard(tile, {group_factors, bits.const_data_ptr<int32_t>(), s.shared_rounds, s.blocks,
                                         s.block_rounds, s.outputs});
        }
      }
    }
  });
  return codes;
}

}  // namespace yoso
