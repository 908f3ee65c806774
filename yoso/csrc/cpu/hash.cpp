// fast_hash: sixteen vectors at a time through the chosen hash family.
#include <ATen/Parallel.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

constexpr int64_t kChunk = 256;  // vectors of one task

struct Sizes {
  int64_t groups, num_hash, hash_code_len, dim, padded_dim, shared_rounds, blocks, block_rounds, outputs;
  bool gaussian;
};

Sizes check(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
            const std::string& family) {
  check_floating(x, "x");
  check_hash_code_len(hash_code_len);
  const bool gaussian = family == "gaussian", authors = family == "hadamard_authors";
  TORCH_CHECK_VALUE(gaussian || authors || family == "hadamard", "unknown hash_family ", family);
  TORCH_CHECK_VALUE(
      num_hash > 0 && planes.dim() == 3 && planes.size(0) > 0 && (x.size(0) * x.size(1)) % planes.size(0) == 0,
      "planes do not fit x: ", planes.sizes(), " and ", x.sizes());
  Sizes s{planes.size(0),  num_hash, hash_code_len,   x.size(3), planes.size(2),
          authors ? 0 : 2, 0,        authors ? 3 : 1, 0,         gaussian};
  if (gaussian) {
    TORCH_CHECK_VALUE(
        planes.scalar_type() == at::kFloat && planes.size(1) == num_hash * hash_code_len && s.padded_dim == s.dim,
        "planes must be float32 [groups, num_hash * hash_code_len, head_dim], got ", planes.sizes());
    return s;
  }
  s.blocks = (planes.size(1) - s.shared_rounds) / s.block_rounds;
  TORCH_CHECK_VALUE(planes.scalar_type() == at::kChar && s.padded_dim >= s.dim &&
                        (s.padded_dim & (s.padded_dim - 1)) == 0 &&
                        s.shared_rounds + s.blocks * s.block_rounds == planes.size(1),
                    "planes must be int8 [groups, rounds, padded_dim], got ", planes.sizes());
  for (s.outputs = 1; s.outputs < (authors ? s.padded_dim : std::min(num_hash, s.padded_dim));) s.outputs *= 2;
  return s;
}

// Which bit each coordinate of each rotation is: hash * 32 + bit; those of hash num_hash are for nobody.
at::Tensor bit_map(const Sizes& s, bool authors) {
  at::Tensor map = scratch<int32_t>(s.blocks * s.padded_dim);
  int32_t* bits = map.mutable_data_ptr<int32_t>();
  std::fill_n(bits, s.blocks * s.padded_dim, static_cast<int32_t>(s.num_hash * 32));
  const int64_t per_block = authors ? s.padded_dim / s.hash_code_len : s.padded_dim;
  TORCH_CHECK_VALUE(per_block > 0, "hash_code_len ", s.hash_code_len, " exceeds the rotation's size ", s.padded_dim);
  for (int64_t h = 0; h < s.num_hash; ++h) {
    for (int64_t t = 0; t < s.hash_code_len; ++t) {
      const int64_t block = authors ? h / per_block : h / per_block * s.hash_code_len + t;
      const int64_t coordinate = authors ? h % per_block * s.hash_code_len + t : h % per_block;
      TORCH_CHECK_VALUE(block < s.blocks, "planes have too few rounds for num_hash ", s.num_hash);
      bits[block * s.padded_dim + coordinate] = static_cast<int32_t>(h * 32 + t);
    }
  }
  return map;
}

}  // namespace

at::Tensor fast_hash(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
                     const std::string& family) {
  const Sizes s = check(x, planes, num_hash, hash_code_len, family);
  const int64_t heads = x.size(0) * x.size(1), length = x.size(2);
  at::Tensor codes = at::empty({x.size(0), x.size(1), num_hash, length}, x.options().dtype(at::kUInt16));
  const at::Tensor rows_tensor = as_rows(x, at::kFloat), factors = planes.to(at::kFloat).contiguous();
  const Rows<float> rows(rows_tensor);
  const at::Tensor bits = s.gaussian ? at::Tensor() : bit_map(s, family == "hadamard_authors");
  uint16_t* out = codes.mutable_data_ptr<uint16_t>();
  const int64_t chunks = (length + kChunk - 1) / kChunk;

  at::parallel_for(0, heads * chunks, 1, [&](int64_t begin, int64_t end) {
    at::Tensor floats = scratch<float>(3 * s.padded_dim * kLanes), ints = scratch<int32_t>((num_hash + 1) * kLanes);
    float* work = floats.mutable_data_ptr<float>();
    auto* tile_bits = reinterpret_cast<uint32_t*>(ints.mutable_data_ptr<int32_t>());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / chunks, start = task % chunks * kChunk, group = head % s.groups;
      const float* own = factors.const_data_ptr<float>() + group * factors.size(1) * factors.size(2);
      for (int64_t first = start; first < std::min(start + kChunk, length); first += kLanes) {
        const HashTile tile{rows.head(head) + first * rows.stride_row,
                            rows.stride_row,
                            std::min<int64_t>(kLanes, length - first),
                            s.dim,
                            s.padded_dim,
                            work,
                            tile_bits,
                            out + head * num_hash * length + first,
                            length,
                            num_hash};
        if (s.gaussian) {
          kernels().hash_gaussian(tile, {own, hash_code_len});
        } else {
          kernels().hash_hadamard(
              tile, {own, bits.const_data_ptr<int32_t>(), s.shared_rounds, s.blocks, s.block_rounds, s.outputs});
        }
      }
    }
  });
  return codes;
}

}  // namespace yoso
