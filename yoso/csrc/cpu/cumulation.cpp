// lsh_cumulation: one task a (head, slice of 16 value columns), its table small enough for the core's own cache.
#include <ATen/Parallel.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

constexpr int64_t kTableBytes = 256 * 1024;

template <typename T>
int64_t hashes_at_once(int64_t table_rows) {
  int64_t count = 8;
  while (count > 1 && count * table_rows * kLanes * static_cast<int64_t>(sizeof(T)) > kTableBytes) count /= 2;
  return count;
}

template <typename T, typename Out>
void cumulate_heads(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value,
                    const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, at::Tensor& out) {
  const int64_t num_hash = query_codes.size(2), num_query = query_codes.size(3), num_key = key_codes.size(3);
  const int64_t heads = value.size(1), dim = value.size(3), slices = (dim + kLanes - 1) / kLanes;
  const int64_t table_rows = int64_t{1} << hash_code_len, at_once = hashes_at_once<T>(table_rows);
  const Rows<T> rows(value);
  const uint16_t *q = query_codes.const_data_ptr<uint16_t>(), *k = key_codes.const_data_ptr<uint16_t>();
  Out* to = out.mutable_data_ptr<Out>();
  const T share = T{1} / static_cast<T>(num_hash);

  at::parallel_for(0, value.size(0) * heads * slices, 1, [&](int64_t begin, int64_t end) {
    at::Tensor space = scratch<T>((num_key + num_query + at_once * table_rows) * kLanes);
    T* values = space.mutable_data_ptr<T>();
    T* sums = values + num_key * kLanes;
    T* tables = sums + num_query * kLanes;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / slices, first = task % slices * kLanes, batch = head / heads;
      rows.copy(head, 0, num_key, first, kLanes, kLanes, mask_row(key_mask, batch), values);
      std::fill_n(sums, num_query * kLanes, T{0});
      cumulate(Cumulation<T>{q + head * num_hash * num_query, k + head * num_hash * num_key, values, sums, tables,
                             num_query, num_key, num_hash, table_rows, at_once});
      const bool* real = mask_row(query_mask, batch);
      const int64_t count = std::min<int64_t>(kLanes, dim - first);
      for (int64_t i = 0; i < num_query; ++i) {
        Out* row = to + (head * num_query + i) * dim + first;
        for (int64_t c = 0; c < count; ++c) {
          row[c] = !real || real[i] ? static_cast<Out>(sums[i * kLanes + c] * share) : Out(0);
        }
      }
    }
  });
}

}  // namespace

at::Tensor lsh_cumulation(const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& value,
                          const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len) {
  check_hash_code_len(hash_code_len);
  check_codes(query_codes, key_codes, value);
  check_range(query_codes, hash_code_len);
  check_range(key_codes, hash_code_len);
  check_mask(query_mask, value.size(0), query_codes.size(3), "query_mask");
  check_mask(key_mask, value.size(0), value.size(2), "key_mask");
  at::Tensor out = at::empty({value.size(0), value.size(1), query_codes.size(3), value.size(3)}, value.options());
  const at::Tensor q = query_codes.contiguous(), k = key_codes.contiguous();
  const at::Tensor rows = as_rows(value, accumulate_type(value));
  const Mask real_queries = contiguous(query_mask), real_keys = contiguous(key_mask);
  if (value.scalar_type() == at::kDouble) {
    cumulate_heads<double, double>(q, k, rows, real_queries, real_keys, hash_code_len, out);
  } else if (value.scalar_type() == at::kFloat) {
    cumulate_heads<float, float>(q, k, rows, real_queries, real_keys, hash_code_len, out);
  } else if (value.scalar_type() == at::kBFloat16) {
    cumulate_heads<float, at::BFloat16>(q, k, rows, real_queries, real_keys, hash_code_len, out);
  } else {
    TORCH_CHECK_VALUE(value.scalar_type() == at::kHalf, "value must be float64, float32, bfloat16 or float16, got ",
                      value.scalar_type());
    cumulate_heads<float, at::Half>(q, k, rows, real_queries, real_keys, hash_code_len, out);
  }
  return out;
}

}  // namespace yoso
