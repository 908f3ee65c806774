// lsh_attention_backward: keys and queries sorted by code, one hash after the other, each bucket a dense block.
#include <ATen/Parallel.h>
#include <ATen/ops/constant_pad_nd.h>
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

  CodeOrder order() const { return {starts, ids}; }
};

// Rows whose length is a multiple of sixteen: x itself where it is, else a copy with zeros at the end.
at::Tensor in_lanes(const at::Tensor& x, at::ScalarType type) {
  const at::Tensor rows = as_rows(x, type);
  const int64_t missing = round_up(x.size(3), kLanes) - x.size(3);
  return missing == 0 ? rows : at::constant_pad_nd(rows, {0, missing});
}

template <typename T>
void visit_heads(const Rows<T>& grad, const Rows<T>& query, const Rows<T>& key, const Rows<T>& value,
                 const at::Tensor& query_codes, const at::Tensor& key_codes, const Mask& query_mask,
                 const Mask& key_mask, int64_t hash_code_len, at::Tensor& grad_query, at::Tensor& grad_key) {
  const int64_t num_hash = query_codes.size(2), num_query = query.length, num_key = key.length;
  const int64_t parts = grad_query.size(1), hashes = (num_hash + parts - 1) / parts;
  const int64_t table_rows = int64_t{1} << hash_code_len;
  const T scale = static_cast<T>(hash_code_len) / static_cast<T>(2 * num_hash);
  const uint16_t *q = query_codes.const_data_ptr<uint16_t>(), *k = key_codes.const_data_ptr<uint16_t>();

  at::parallel_for(0, grad_query.size(0) * parts, 1, [&](int64_t begin, int64_t end) {
    at::Tensor moment = scratch<T>(query.dim * value.dim);
    Buckets queries(table_rows, num_query), keys(table_rows, num_key);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / parts, batch = head / query.heads, first = task % parts * hashes;
      for (int64_t hash = first; hash < std::min(first + hashes, num_hash); ++hash) {
        const int64_t h = head * num_hash + hash;
        queries.sort(q + h * num_query, num_query, mask_row(query_mask, batch));
        keys.sort(k + h * num_key, num_key, mask_row(key_mask, batch));
        visit_pairs(CollidingPairs<T>{queries.order(), keys.order(), table_rows, query.head_rows(head),
                                      key.head_rows(head), grad.head_rows(head), value.head_rows(head),
                                      grad_query.mutable_data_ptr<T>() + task * num_query * query.dim,
                                      grad_key.mutable_data_ptr<T>() + task * num_key * key.dim,
                                      moment.mutable_data_ptr<T>(), query.dim, value.dim, scale});
      }
    }
  });
}

at::Tensor gradient_of(const at::Tensor& x, const at::Tensor& parts) {
  return add_parts(parts).narrow(2, 0, x.size(3)).reshape(x.sizes()).to(x.scalar_type()).contiguous();
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
  check_range(query_codes, hash_code_len);
  check_range(key_codes, hash_code_len);
  check_grad(grad, query, value);
  TORCH_CHECK_VALUE(query_codes.size(3) == query.size(2), "query_codes must have query's length ", query.size(2),
                    ", got ", query_codes.size(3));
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
  const at::ScalarType type = accumulate_type(value);
  const at::Tensor g = in_lanes(grad, type), q = in_lanes(query, type), k = in_lanes(key, type);
  const at::Tensor v = in_lanes(value, type), qc = query_codes.contiguous(), kc = key_codes.contiguous();
  const Mask qm = contiguous(query_mask), km = contiguous(key_mask);
  const int64_t heads = query.size(0) * query.size(1), parts = parts_of_a_head(heads, query_codes.size(2));
  at::Tensor grad_query = at::zeros({heads, parts, q.size(2), q.size(3)}, q.options());
  at::Tensor grad_key = at::zeros({heads, parts, k.size(2), k.size(3)}, k.options());
  if (type == at::kDouble) {
    visit_heads(Rows<double>(g), Rows<double>(q), Rows<double>(k), Rows<double>(v), qc, kc, qm, km, hash_code_len,
                grad_query, grad_key);
  } else {
    visit_heads(Rows<float>(g), Rows<float>(q), Rows<float>(k), Rows<float>(v), qc, kc, qm, km, hash_code_len,
                grad_query, grad_key);
  }
  return {gradient_of(query, grad_query), gradient_of(key, grad_key)};
}

}  // namespace yoso
