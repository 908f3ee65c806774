// lsh_cumulation. A task is one slice of 16 value columns of one head, so that its hash tables fit in the L2 cache.
#include <ATen/Parallel.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

constexpr int64_t kTableBytes = 256 * 1024;

// The number of hashes processed in one pass: 8, 4 or 2 if all their tables take at most kTableBytes, otherwise 1.
template <typename T>
int64_t hashes_in_cache(int64_t table_rows) {
  int64_t count = 8;
  while (count > 1 && count * table_rows * kLanes * static_cast<int64_t>(sizeof(T)) > kTableBytes) count /= 2;
  return count;
}

template <typename T, typename Out>
void cumulate_heads(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value,
                    const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, at::Tensor& out) {
  const int64_t num_hash = query_codes.size(2), num_query = query_codes.size(3), num_key = key_codes.size(3);
  const int64_t heads = value.size(1), dim = value.size(3), slices = (dim + kLanes - 1) / kLanes;
  const int64_t table_rows = int64_t{1} << hash_code_len, at_once = hashes_in_cache<T>(table_rows);
  const Rows<T> rows(value);
  const uint16_t *query_code = query_codes.const_data_ptr<uint16_t>(), *key_code = key_codes.const_data_ptr<uint16_t>();
  Out* to = out.mutable_data_ptr<Out>();
  const T scale = T{1} / static_cast<T>(num_hash);

  at::parallel_for(0, value.size(0) * heads * slices, 1, [&](int64_t begin, int64_t end) {
    at::Tensor space = scratch<T>((num_key + num_query + at_once * table_rows) * kLanes);
    T* values = space.mutable_data_ptr<T>();
    T* sums = values + num_key * kLanes;
    T* tables = sums + num_query * kLanes;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / slices, first = task % slices * kLanes, batch = head / heads;
      rows.copy(head, 0, num_key, first, kLanes, kLanes, mask_row(key_mask, batch), values);
      std::fill_n(sums, num_query * kLanes, T{0});
      cumulate(Cumulation<T>{.query_codes = query_code + head * num_hash * num_query,
                             .key_codes = key_code + head * num_hash * num_key,
                             .values = values,
                             .sums = sums,
                             .tables = tables,
                             .num_query = num_query,
                             .num_key = num_key,
                             .num_hash = num_hash,
                             .table_rows = table_rows,
                             .hashes_at_once = at_once});
      const bool* mask = mask_row(query_mask, batch);
      const int64_t count = std::min<int64_t>(kLanes, dim - first);
      for (int64_t i = 0; i < num_query; ++i) {
        Out* row = to + (head * num_query + i) * dim + first;
        for (int64_t c = 0; c < count; ++c) {
          row[c] = !mask || mask[i] ? static_cast<Out>(sums[i * kLanes + c] * scale) : Out(0);
        }
      }
    }
  });
}

}  // namespace

at::Tensor lsh_cumulation(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value,
                          const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, bool unrounded) {
  check_hash_code_len(hash_code_len);
  check_codes(query_codes, key_codes, value);
  check_code_range(query_codes, hash_code_len);
  check_code_range(key_codes, hash_code_len);
  check_mask(query_mask, value.size(0), query_codes.size(3), "query_mask");
  check_mask(key_mask, value.size(0), value.size(2), "key_mask");
  at::Tensor out = at::empty({value.size(0), value.size(1), query_codes.size(3), value.size(3)},
                             value.options().dtype(unrounded ? accumulate_type(value) : value.scalar_type()));
  const at::Tensor q = query_codes.contiguous(), k = key_codes.contiguous();
  const at::Tensor rows = as_rows(value, accumulate_type(value));
  const Mask q_mask = contiguous(query_mask), k_mask = contiguous(key_mask);
  if (out.scalar_type() == at::kDouble) {
    cumulate_heads<double, double>(q, k, rows, q_mask, k_mask, hash_code_len, out);
  } else if (out.scalar_type() == at::kFloat) {
    cumulate_heads<float, float>(q, k, rows, q_mask, k_mask, hash_code_len, out);
  } else if (value.scalar_type() == at::kBFloat16) {
    cumulate_heads<float, at::BFloat16>(q, k, rows, q_mask, k_mask, hash_code_len, out);
  } else {
    TORCH_CHECK_VALUE(value.scalar_type() == at::kHalf, "value must be float64, float32, bfloat16 or float16, got ",
                      value.scalar_type());
    cumulate_heads<float, at::Half>(q, k, rows, q_mask, k_mask, hash_code_len, out);
  }
  return out;
}

}  // namespace yoso
