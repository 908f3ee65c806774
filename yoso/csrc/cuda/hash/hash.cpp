// The torch side of fast_hash: argument checks and the launch.
#include "hash.h"

#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <limits>
#include <string>

#include "../../checks.h"
#include "../common/tensors.h"

namespace yoso::cuda {
namespace {

void check_planes(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
                  const std::string& family) {
  TORCH_CHECK_VALUE(family == "gaussian" || family == "hadamard" || family == "hadamard_authors",
                    "unknown hash_family ", family);
  TORCH_CHECK_VALUE(0 < num_hash && num_hash <= 1024, "num_hash must be 1 to 1024 on CUDA, got ", num_hash);
  TORCH_CHECK_VALUE(planes.device() == x.device(), "planes must be on ", x.device(), " like x, got ", planes.device());
  TORCH_CHECK_VALUE(planes.dim() == 3 && planes.size(0) > 0 && x.size(0) * x.size(1) % planes.size(0) == 0,
                    "planes do not fit x: they must be [groups, rows, dim] with groups that divide batch * heads, got ",
                    planes.sizes(), " for x ", x.sizes());
  const int64_t dim = x.size(3), plane_dim = planes.size(2);
  if (family == "gaussian") {
    TORCH_CHECK_VALUE(
        planes.scalar_type() == at::kFloat && planes.size(1) == num_hash * hash_code_len && plane_dim == dim,
        "planes must be float32 [groups, num_hash * hash_code_len, head_dim], got ", planes.scalar_type(), " ",
        planes.sizes());
    return;
  }
  const bool authors = family == "hadamard_authors";
  TORCH_CHECK_VALUE(planes.scalar_type() == at::kChar && dim <= plane_dim && plane_dim <= kMaxHeadDim &&
                        (plane_dim & (plane_dim - 1)) == 0,
                    "planes must be int8 [groups, rounds, padded_dim], got ", planes.scalar_type(), " ",
                    planes.sizes());
  TORCH_CHECK_VALUE(!authors || hash_code_len <= plane_dim, "hash_code_len ", hash_code_len,
                    " exceeds the rotation's size ", plane_dim);
  const int64_t per_rotation = authors ? plane_dim / hash_code_len : plane_dim;
  const int64_t rotations = (num_hash + per_rotation - 1) / per_rotation;
  TORCH_CHECK_VALUE(planes.size(1) >= (authors ? 3 * rotations : 2 + rotations * hash_code_len),
                    "planes have too few rounds for num_hash ", num_hash, ": ", planes.sizes());
}

// x itself if its rows are aligned vectors of 16 bytes; else a copy, with zeros appended to its rows where needed,
// which do not change projections.
at::Tensor with_whole_vectors(const at::Tensor& x) {
  const int64_t size = x.element_size(), columns = 16 / size, remainder = x.size(3) % columns;
  if (remainder != 0) return at::constant_pad_nd(x, {0, columns - remainder});
  const at::Tensor dense = with_dense_rows(x);
  return rows_are_aligned(rows_of(dense), size, 16) ? dense : dense.clone(at::MemoryFormat::Contiguous);
}

at::Tensor fast_hash(const at::Tensor& x, const at::Tensor& planes, int64_t num_hash, int64_t hash_code_len,
                     const std::string& family) {
  check_floating(x, "x");
  check_hash_code_len(hash_code_len);
  const Dtype dtype = dtype_of(x, "x");
  check_head_dim(x, "x");
  check_one_device("fast_hash", x, planes);
  check_planes(x, planes, num_hash, hash_code_len, family);
  const int64_t batch = x.size(0), heads = x.size(1), length = x.size(2);
  at::Tensor codes = at::empty({batch, heads, num_hash, length}, x.options().dtype(at::kUInt16));
  if (codes.numel() == 0) return codes;
  constexpr int64_t kMaxBlocks = std::numeric_limits<int32_t>::max();
  TORCH_CHECK_VALUE(
      batch * heads * ((length + 7) / 8) <= kMaxBlocks && planes.size(0) * (num_hash + 7) * hash_code_len <= kMaxBlocks,
      "too many vectors or planes for one launch; hash x in parts: x ", x.sizes(), ", planes ", planes.sizes());

  const Device device(x);
  const at::Tensor rows = with_whole_vectors(x), dense_planes = planes.contiguous();
  HashParams p{};
  p.x = rows_of(rows);
  p.dtype = dtype;
  p.num_heads = static_cast<uint32_t>(batch * heads);
  p.heads_per_sequence = static_cast<uint32_t>(heads);
  p.length = length;
  p.dim = static_cast<int>(rows.size(3));
  p.family = family == "gaussian"   ? HashFamily::kGaussian
             : family == "hadamard" ? HashFamily::kHadamard
                                    : HashFamily::kHadamardAuthors;
  p.planes = dense_planes.const_data_ptr();
  p.groups = static_cast<uint32_t>(planes.size(0));
  p.plane_rows = planes.size(1);
  p.plane_dim = static_cast<int>(planes.size(2));
  p.num_hash = static_cast<int>(num_hash);
  p.hash_code_len = static_cast<int>(hash_code_len);
  p.codes = codes.mutable_data_ptr<uint16_t>();
  at::Tensor workspace = at::empty({hash_workspace_bytes(p)}, x.options().dtype(at::kByte));
  check_launch(launch_hash(p, workspace.mutable_data_ptr(), device.stream()), "fast_hash");
  return codes;
}

}  // namespace
}  // namespace yoso::cuda

TORCH_LIBRARY_IMPL(yoso, CUDA, m) { m.impl("fast_hash", TORCH_FN(yoso::cuda::fast_hash)); }
