// fast_hash: sixteen vectors at a time through the chosen hash family.
#include <ATen/Parallel.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

constexpr int64_t kChunk = 256;  // vectors of one task

struct Sizes {
  int64_t groups, num_hash, hash_code_len, dim, padded_dim, blocks, rounds;
  bool gaussian;
};

Sizes check(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
            const std::string& family) {
  check_floating(x, "x");
  check_hash_code_len(hash_code_len);
  const bool gaussian = family == "gaussian";
  TORCH_CHECK_VALUE(num_hash > 0 && planes.dim() == (gaussian ? 3 : 4) && planes.size(0) > 0 &&
                        (x.size(0) * x.size(1)) % planes.size(0) == 0,
                    "planes do not fit x: ", planes.sizes(), " and ", x.sizes());
  Sizes s{planes.size(0), num_hash, hash_code_len, x.size(3), 0, 0, 0, gaussian};
  if (gaussian) {
    TORCH_CHECK_VALUE(
        planes.scalar_type() == at::kFloat && planes.size(1) == num_hash * hash_code_len && planes.size(2) == s.dim,
        "planes must be float32 [groups, num_hash * hash_code_len, head_dim], got ", planes.sizes());
    s.padded_dim = s.dim;
  } else {
    s.blocks = planes.size(1), s.rounds = planes.size(2), s.padded_dim = planes.size(3);
    TORCH_CHECK_VALUE(planes.scalar_type() == at::kChar && s.padded_dim >= s.dim &&
                          (s.padded_dim & (s.padded_dim - 1)) == 0 && s.rounds > 0,
                      "planes must be int8 [groups, blocks, rounds, padded_dim], got ", planes.sizes());
  }
  return s;
}

// Which bit each coordinate of each rotation is: hash * 32 + bit, or -1.
at::Tensor bit_map(const Sizes& s, const std::string& family) {
  at::Tensor map = scratch<int32_t>(s.blocks * s.padded_dim);
  int32_t* bits = map.mutable_data_ptr<int32_t>();
  std::fill_n(bits, s.blocks * s.padded_dim, -1);
  const bool spread = family == "hadamard";
  TORCH_CHECK_VALUE(spread || family == "hadamard_authors", "unknown hash_family ", family);
  const int64_t per_block = spread ? s.padded_dim : s.padded_dim / s.hash_code_len;
  TORCH_CHECK_VALUE(per_block > 0, "hash_code_len ", s.hash_code_len, " exceeds the rotation's size ", s.padded_dim);
  for (int64_t h = 0; h < s.num_hash; ++h) {
    for (int64_t t = 0; t < s.hash_code_len; ++t) {
      const int64_t block = spread ? h / per_block * s.hash_code_len + t : h / per_block;
      const int64_t coordinate = spread ? h % per_block : h % per_block * s.hash_code_len + t;
      TORCH_CHECK_VALUE(block < s.blocks, "planes have too few blocks: ", s.blocks);
      bits[block * s.padded_dim + coordinate] = static_cast<int32_t>(h * 32 + t);
    }
  }
  return map;
}

at::Tensor sign_flips(const at::Tensor& planes) {
  const at::Tensor signs = planes.contiguous();
  at::Tensor flips = scratch<int32_t>(signs.numel());
  const int8_t* from = signs.const_data_ptr<int8_t>();
  auto* to = reinterpret_cast<uint32_t*>(flips.mutable_data_ptr<int32_t>());
  for (int64_t i = 0; i < signs.numel(); ++i) to[i] = from[i] < 0 ? 0x80000000u : 0u;
  return flips;
}

// Sixteen vectors side by side, zero beyond the last vector and beyond dim.
void transpose_tile(const Rows<float>& x, int64_t head, int64_t first, int64_t padded_dim, float* tile) {
  const int64_t count = std::min<int64_t>(kLanes, x.length - first);
  std::fill_n(tile, padded_dim * kLanes, 0.0f);
  for (int64_t lane = 0; lane < count; ++lane) {
    const float* row = x.head(head) + (first + lane) * x.stride_row;
    for (int64_t c = 0; c < x.dim; ++c) tile[c * kLanes + lane] = row[c];
  }
}

}  // namespace

at::Tensor fast_hash(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
                     const std::string& family) {
  const Sizes s = check(x, planes, num_hash, hash_code_len, family);
  const int64_t heads = x.size(0) * x.size(1), length = x.size(2);
  at::Tensor codes = at::empty({x.size(0), x.size(1), num_hash, length}, x.options().dtype(at::kUInt16));
  const at::Tensor rows_tensor = as_rows(x, at::kFloat), directions = s.gaussian ? planes.contiguous() : planes;
  const Rows<float> rows(rows_tensor);
  const at::Tensor flips = s.gaussian ? at::Tensor() : sign_flips(planes);
  const at::Tensor bits = s.gaussian ? at::Tensor() : bit_map(s, family);
  uint16_t* out = codes.mutable_data_ptr<uint16_t>();
  const int64_t chunks = (length + kChunk - 1) / kChunk;

  at::parallel_for(0, heads * chunks, 1, [&](int64_t begin, int64_t end) {
    at::Tensor floats = scratch<float>(2 * s.padded_dim * kLanes), ints = scratch<int32_t>(num_hash * kLanes);
    float* tile = floats.mutable_data_ptr<float>();
    auto* tile_codes = reinterpret_cast<uint32_t*>(ints.mutable_data_ptr<int32_t>());
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / chunks, start = task % chunks * kChunk, group = head % s.groups;
      for (int64_t first = start; first < std::min(start + kChunk, length); first += kLanes) {
        transpose_tile(rows, head, first, s.padded_dim, tile);
        if (s.gaussian) {
          const float* w = directions.const_data_ptr<float>() + group * num_hash * hash_code_len * s.dim;
          kernels().hash_gaussian({tile, w, tile_codes, s.dim, num_hash, hash_code_len});
        } else {
          const auto* f = reinterpret_cast<const uint32_t*>(flips.const_data_ptr<int32_t>()) +
                          group * s.blocks * s.rounds * s.padded_dim;
          kernels().hash_hadamard({tile, f, bits.const_data_ptr<int32_t>(), tile + s.padded_dim * kLanes, tile_codes,
                                   s.blocks, s.rounds, s.padded_dim, num_hash});
        }
        const int64_t count = std::min<int64_t>(kLanes, length - first);
        for (int64_t h = 0; h < num_hash; ++h) {
          uint16_t* to = out + (head * num_hash + h) * length + first;
          for (int64_t lane = 0; lane < count; ++lane) to[lane] = static_cast<uint16_t>(tile_codes[h * kLanes + lane]);
        }
      }
    }
  });
  return codes;
}

}  // namespace yoso
