// lsh_attention_backward: keys and queries sorted by code, one hash after the other, each bucket a dense block.
#include <ATen/Parallel.h>
#include <ATen/ops/zeros.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

// Real rows ordered by code: those of code c are ids[starts[c] .. starts[c + 1]), in their own order.
struct Buckets {
  at::Tensor space;
  int64_t rows;
  int32_t *starts, *ids;

  Buckets(int64_t table_rows, int64_t length)
      : space(scratch<int32_t>(table_rows + 2 + length)),
        rows(table_rows),
        starts(space.mutable_data_ptr<int32_t>()),
        ids(starts + table_rows + 2) {}

  void sort(const uint16_t* codes, int64_t length, const bool* real) {
    // Counts go two places up, so that filling a bucket leaves its start where its reader looks.
    std::fill_n(starts, rows + 2, 0);
    for (int64_t i = 0; i < length; ++i) starts[codes[i] + 2] += !real || real[i];
    for (int64_t c = 2; c <= rows; ++c) starts[c] += starts[c - 1];
    for (int64_t i = 0; i < length; ++i) {
      if (!real || real[i]) ids[starts[codes[i] + 1]++] = static_cast<int32_t>(i);
    }
  }

  int64_t size(int64_t code) const { return starts[code + 1] - starts[code]; }
};

template <typename T>
struct Head {
  at::Tensor space;
  T *queries, *keys, *grads, *values, *grad_queries, *grad_keys, *moment;

  Head(int64_t num_query, int64_t num_key, int64_t dim, int64_t value_dim)
      : space(scratch<T>(2 * (num_query + num_key) * dim + (num_query + num_key) * value_dim + dim * value_dim)) {
    queries = space.mutable_data_ptr<T>();
    keys = queries + num_query * dim;
    grad_queries = keys + num_key * dim;
    grad_keys = grad_queries + num_query * dim;
    grads = grad_keys + num_key * dim;
    values = grads + num_query * value_dim;
    moment = values + num_key * value_dim;
  }
};

template <typename T>
void store(const T* from, int64_t stride, int64_t head, at::Tensor& out) {
  const int64_t length = out.size(2), dim = out.size(3);
  T* to = out.mutable_data_ptr<T>() + head * length * dim;
  for (int64_t i = 0; i < length; ++i) std::copy_n(from + i * stride, dim, to + i * dim);
}

template <typename T>
void visit_heads(const Rows<T>& grad, const Rows<T>& query, const Rows<T>& key, const Rows<T>& value,
                 const at::Tensor& query_codes, const at::Tensor& key_codes, const Mask& query_mask,
                 const Mask& key_mask, int64_t hash_code_len, at::Tensor& grad_query, at::Tensor& grad_key) {
  const int64_t num_hash = query_codes.size(2), num_query = query.length, num_key = key.length;
  const int64_t dim = round_up(query.dim, kLanes), value_dim = round_up(value.dim, kLanes);
  const int64_t table_rows = int64_t{1} << hash_code_len;
  const T scale = static_cast<T>(hash_code_len) / static_cast<T>(2 * num_hash);
  const uint16_t *q = query_codes.const_data_ptr<uint16_t>(), *k = key_codes.const_data_ptr<uint16_t>();

  at::parallel_for(0, query_codes.size(0) * query.heads, 1, [&](int64_t begin, int64_t end) {
    Head<T> rows(num_query, num_key, dim, value_dim);
    Buckets queries(table_rows, num_query), keys(table_rows, num_key);
    for (int64_t head = begin; head < end; ++head) {
      query.copy(head, 0, dim, dim, nullptr, rows.queries);
      key.copy(head, 0, dim, dim, nullptr, rows.keys);
      grad.copy(head, 0, value_dim, value_dim, nullptr, rows.grads);
      value.copy(head, 0, value_dim, value_dim, nullptr, rows.values);
      std::fill_n(rows.grad_queries, num_query * dim, T{0});
      std::fill_n(rows.grad_keys, num_key * dim, T{0});
      const int64_t batch = head / query.heads;
      for (int64_t h = head * num_hash; h < (head + 1) * num_hash; ++h) {
        queries.sort(q + h * num_query, num_query, mask_row(query_mask, batch));
        keys.sort(k + h * num_key, num_key, mask_row(key_mask, batch));
        for (int64_t code = 0; code < table_rows; ++code) {
          if (queries.size(code) == 0 || keys.size(code) == 0) continue;
          visit_bucket(Bucket<T>{queries.ids + queries.starts[code], keys.ids + keys.starts[code], queries.size(code),
                                 keys.size(code), rows.queries, rows.keys, rows.grads, rows.values, rows.grad_queries,
                                 rows.grad_keys, rows.moment, dim, value_dim, scale});
        }
      }
      store(rows.grad_queries, dim, head, grad_query);
      store(rows.grad_keys, dim, head, grad_key);
    }
  });
}

}  // namespace

std::tuple<at::Tensor, at::Tensor> lsh_attention_backward(const at::Tensor& grad, const at::Tensor& query,
                                                          const at::Tensor& key, const at::Tensor& value,
                                                          const at::Tensor& query_codes, const at::Tensor& key_codes,
                                                          const Mask& query_mask, const Mask& key_mask,
                                                          int64_t hash_code_len) {
  check_hash_code_len(hash_code_len);
  check_attention(query, key, value);
  check_codes(query_codes, key_codes, value);
  check_grad(grad, query, value);
  TORCH_CHECK_VALUE(query_codes.size(3) == query.size(2), "query_codes must have query's length ", query.size(2),
                    ", got ", query_codes.size(3));
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
  const at::ScalarType type = accumulate_type(value);
  const at::Tensor g = as_rows(grad, type), q = as_rows(query, type), k = as_rows(key, type), v = as_rows(value, type);
  at::Tensor grad_query = at::empty(query.sizes(), query.options().dtype(type));
  at::Tensor grad_key = at::empty(key.sizes(), key.options().dtype(type));
  const at::Tensor qc = query_codes.contiguous(), kc = key_codes.contiguous();
  const Mask qm = contiguous(query_mask), km = contiguous(key_mask);
  if (type == at::kDouble) {
    visit_heads(Rows<double>(g), Rows<double>(q), Rows<double>(k), Rows<double>(v), qc, kc, qm, km, hash_code_len,
                grad_query, grad_key);
  } else {
    visit_heads(Rows<float>(g), Rows<float>(q), Rows<float>(k), Rows<float>(v), qc, kc, qm, km, hash_code_len,
                grad_query, grad_key);
  }
  return {grad_query.to(query.scalar_type()), grad_key.to(key.scalar_type())};
}

}  // namespace yoso
