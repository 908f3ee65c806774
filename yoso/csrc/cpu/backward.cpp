// lsh_attention_backward. Queries and keys are sorted into buckets by code, several hashes at a time. In small buckets
// every target reads the rows of its sources and keeps its sums in registers; a large bucket is processed as a whole.
#include "../checks.h"
#include "buckets.h"
#include "ops.h"

namespace yoso {
namespace {

constexpr int64_t kRowsPerTask = 512;

// All data of the queries or of the keys: rows [payload | unit] (kernel_interface.h), codes, mask, gradients, buckets.
// Rows, gradients and buckets exist for heads_at_once heads; their index `h` is relative to the first of these heads.
template <typename T>
struct TokenData {
  Rows<T> payload, unit;  // the inputs; unit is not yet scaled to length 1
  const uint16_t* codes;
  const Mask& mask;
  int64_t length, payload_dim, unit_dim;  // dims are rounded up to a multiple of 16
  at::Tensor row_space, grad_unit_space, grad_payload_space;
  BucketStorage storage;

  TokenData(const at::Tensor& payload_rows, const at::Tensor& unit_rows, const at::Tensor& all_codes,
            const Mask& token_mask, int64_t heads, int64_t hashes, int64_t table_rows, bool wants_grad_payload)
      : payload(payload_rows),
        unit(unit_rows),
        codes(all_codes.const_data_ptr<uint16_t>()),
        mask(token_mask),
        length(payload.length),
        payload_dim(round_up(payload.dim, kLanes)),
        unit_dim(round_up(unit.dim, kLanes)),
        row_space(scratch<T>(heads * length * (payload_dim + unit_dim))),
        grad_unit_space(scratch<T>(heads * length * unit_dim)),
        grad_payload_space(wants_grad_payload ? scratch<T>(heads * length * payload_dim) : at::Tensor()),
        storage(heads, hashes, table_rows, length) {}

  T* rows(int64_t h) const { return row_space.mutable_data_ptr<T>() + h * length * (payload_dim + unit_dim); }
  T* grad_unit(int64_t h) const { return grad_unit_space.mutable_data_ptr<T>() + h * length * unit_dim; }
  T* grad_payload(int64_t h) const {
    return grad_payload_space.defined() ? grad_payload_space.mutable_data_ptr<T>() + h * length * payload_dim : nullptr;
  }
  const bool* head_mask(int64_t head) const { return mask_row(mask, head / payload.heads); }

  // Packs payload and unit of each token side by side, so that a pair reads each token from one place, scales unit to
  // length 1 and zeroes the gradients.
  void prepare(int64_t head0, int64_t heads) const {
    each_chunk(heads, length, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
      const int64_t size = payload_dim + unit_dim;
      T *to_payload = rows(h) + begin * size, *to_unit = to_payload + payload_dim;
      payload.copy(head0 + h, begin, end, 0, payload.dim, size, head_mask(head0 + h), to_payload);
      unit.copy(head0 + h, begin, end, 0, unit.dim, size, head_mask(head0 + h), to_unit);
      scale_rows(RowBlock<T>{to_unit, nullptr, to_unit, size, 0, size, end - begin, unit_dim});
      std::fill_n(grad_unit(h) + begin * unit_dim, (end - begin) * unit_dim, T{0});
      if (grad_payload(h)) std::fill_n(grad_payload(h) + begin * payload_dim, (end - begin) * payload_dim, T{0});
    });
  }
};

struct BackwardSizes {
  int64_t all_heads, num_hash, table_rows, heads_at_once, hashes_at_once;
  double scale;
};

// Each row is in one bucket per hash. Two large buckets of the same hash therefore never write the same row, but
// buckets of different hashes may, so the hashes of a head are processed one after another. If there are many large
// buckets, the buckets of each hash run in parallel; if there are few, only the heads do.
template <typename T>
void visit_large(const BackwardSizes& sizes, const TokenData<T>& queries, const TokenData<T>& keys,
                 const LargeBucketList& large, int64_t heads, int64_t hashes) {
  constexpr int64_t kBucketsPerTask = 32;
  const auto visit = [&](int64_t h, int64_t hash, int64_t begin, int64_t end) {
    if (begin >= end) return;
    const at::Tensor moment = scratch<T>(queries.payload_dim * queries.unit_dim);
    add_large_bucket_gradient(LargeBucketGradient<T>{.queries = queries.storage.buckets(h, hash, 1),
                                                     .keys = keys.storage.buckets(h, hash, 1),
                                                     .codes = large.codes(h, hash),
                                                     .first = begin,
                                                     .last = end,
                                                     .query_rows = queries.rows(h),
                                                     .key_rows = keys.rows(h),
                                                     .grad_query = queries.grad_unit(h),
                                                     .grad_key = keys.grad_unit(h),
                                                     .grad_value = keys.grad_payload(h),
                                                     .moment = moment.mutable_data_ptr<T>(),
                                                     .payload_dim = queries.payload_dim,
                                                     .unit_dim = queries.unit_dim,
                                                     .scale = static_cast<T>(sizes.scale)});
  };
  if (large.max_count(heads, 0, hashes) < kBucketsPerTask) {
    each_chunk(heads, 1, 1, [&](int64_t h, int64_t, int64_t) {
      for (int64_t hash = 0; hash < hashes; ++hash) visit(h, hash, 0, large.count(h, hash));
    });
    return;
  }
  for (int64_t hash = 0; hash < hashes; ++hash) {
    each_chunk(
        heads, large.max_count(heads, hash, hash + 1), kBucketsPerTask,
        [&](int64_t h, int64_t begin, int64_t end) { visit(h, hash, begin, std::min(end, large.count(h, hash))); });
  }
}

template <typename T>
void visit_small(const BackwardSizes& sizes, const TokenData<T>& targets, const TokenData<T>& sources, int64_t head0,
                 int64_t heads, int64_t hash0, int64_t hashes) {
  each_chunk(heads, targets.length, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
    const uint16_t* codes = targets.codes + ((head0 + h) * sizes.num_hash + hash0) * targets.length;
    add_small_bucket_gradient(SmallBucketGradient<T>{.lookup = {.sources = sources.storage.buckets(h, 0, hashes),
                                                                .codes = codes,
                                                                .codes_stride = targets.length,
                                                                .first = begin,
                                                                .last = end,
                                                                .mask = targets.head_mask(head0 + h)},
                                                     .targets = targets.rows(h),
                                                     .sources = sources.rows(h),
                                                     .grad_unit = targets.grad_unit(h),
                                                     .grad_payload = targets.grad_payload(h),
                                                     .payload_dim = targets.payload_dim,
                                                     .unit_dim = targets.unit_dim,
                                                     .scale = static_cast<T>(sizes.scale)});
  });
}

template <typename T>
void visit_hashes(const BackwardSizes& sizes, const TokenData<T>& queries, const TokenData<T>& keys, int64_t head0,
                  int64_t heads, int64_t hash0) {
  const int64_t hashes = std::min(sizes.hashes_at_once, sizes.num_hash - hash0);
  LargeBucketList large(heads, hashes, std::min(sizes.table_rows, std::max(queries.length, keys.length)));
  at::parallel_for(0, heads * hashes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t h = task / hashes, hash = task % hashes;
      const int64_t code_row = (head0 + h) * sizes.num_hash + hash0 + hash;
      queries.storage.sort(h, hash, queries.codes + code_row * queries.length, queries.head_mask(head0 + h));
      keys.storage.sort(h, hash, keys.codes + code_row * keys.length, keys.head_mask(head0 + h));
      large.mark(h, hash, queries.storage, keys.storage, sizes.table_rows);
    }
  });
  visit_large(sizes, queries, keys, large, heads, hashes);
  visit_small(sizes, queries, keys, head0, heads, hash0, hashes);
  visit_small(sizes, keys, queries, head0, heads, hash0, hashes);
}

// Writes the gradient of the query or key: grad_unit, passed back through the scaling to length 1.
template <typename T, typename Out>
void write_unit_gradient(const TokenData<T>& tokens, const at::Tensor& gradient, int64_t head0, int64_t heads) {
  const int64_t length = tokens.length, dim = tokens.unit.dim;
  Out* out = gradient.mutable_data_ptr<Out>() + head0 * length * dim;
  each_chunk(heads, length, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
    T* grads = tokens.grad_unit(h) + begin * tokens.unit_dim;
    scale_rows(RowBlock<T>{.x = tokens.unit.head(head0 + h) + begin * tokens.unit.stride_row,
                           .grad = grads,
                           .out = grads,
                           .x_stride = tokens.unit.stride_row,
                           .grad_stride = tokens.unit_dim,
                           .out_stride = tokens.unit_dim,
                           .count = end - begin,
                           .dim = dim});
    const bool* mask = tokens.head_mask(head0 + h);
    for (int64_t i = begin; mask && i < end; ++i) {
      // A masked row may contain NaN, which must not reach the gradient.
      if (!mask[i]) std::fill_n(grads + (i - begin) * tokens.unit_dim, dim, T{0});
    }
    write_rows(grads, end - begin, tokens.unit_dim, T{1}, out + (h * length + begin) * dim, dim);
  });
}

// Writes the gradient of the value: grad_payload times scale.
template <typename T, typename Out>
void write_payload_gradient(const TokenData<T>& tokens, const at::Tensor& gradient, int64_t head0, int64_t heads,
                            T scale) {
  const int64_t length = tokens.length, dim = tokens.payload.dim;
  Out* out = gradient.mutable_data_ptr<Out>() + head0 * length * dim;
  each_chunk(heads, length, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
    const T* grads = tokens.grad_payload(h) + begin * tokens.payload_dim;
    write_rows(grads, end - begin, tokens.payload_dim, scale, out + (h * length + begin) * dim, dim);
  });
}

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

template <typename T, typename Out>
void visit_heads(const BackwardSizes& sizes, const TokenData<T>& queries, const TokenData<T>& keys,
                 const Gradients& gradients) {
  const auto& [grad_query, grad_key, grad_value] = gradients;
  for (int64_t head0 = 0; head0 < sizes.all_heads; head0 += sizes.heads_at_once) {
    const int64_t heads = std::min(sizes.heads_at_once, sizes.all_heads - head0);
    queries.prepare(head0, heads);
    keys.prepare(head0, heads);
    for (int64_t hash0 = 0; hash0 < sizes.num_hash; hash0 += sizes.hashes_at_once) {
      visit_hashes(sizes, queries, keys, head0, heads, hash0);
    }
    write_unit_gradient<T, Out>(queries, grad_query, head0, heads);
    write_unit_gradient<T, Out>(keys, grad_key, head0, heads);
    write_payload_gradient<T, Out>(keys, grad_value, head0, heads, T{1} / static_cast<T>(sizes.num_hash));
  }
}

}  // namespace

Gradients lsh_attention_backward(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, const at::Tensor& query_codes, const at::Tensor& key_codes,
                                 const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len) {
  return collision_gradients(grad, query, key, value, query_codes, key_codes, query_mask, key_mask, hash_code_len,
                             hash_code_len);
}

Gradients collision_gradients(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key,
                              const at::Tensor& value, const at::Tensor& query_codes, const at::Tensor& key_codes,
                              const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, int64_t exponent) {
  check_hash_code_len(hash_code_len);
  check_attention(query, key, value);
  check_codes(query_codes, key_codes, value);
  check_code_range(query_codes, hash_code_len);
  check_code_range(key_codes, hash_code_len);
  check_grad(grad, query, value);
  TORCH_CHECK_VALUE(query_codes.size(3) == query.size(2), "query_codes must have query's length ", query.size(2),
                    ", got ", query_codes.size(3));
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
  const at::ScalarType type = accumulate_type(value), out = value.scalar_type();
  const at::Tensor g = as_rows(grad, type), q = as_rows(query, type), k = as_rows(key, type), v = as_rows(value, type);
  const at::Tensor qc = query_codes.contiguous(), kc = key_codes.contiguous();
  const Mask qm = contiguous(query_mask), km = contiguous(key_mask);
  const int64_t heads = query.size(0) * query.size(1), num_hash = query_codes.size(2);
  const int64_t length = std::max(query.size(2), key.size(2)), table_rows = int64_t{1} << hash_code_len;
  const BackwardSizes sizes{.all_heads = heads,
                            .num_hash = num_hash,
                            .table_rows = table_rows,
                            .heads_at_once = heads_at_once(heads, length),
                            .hashes_at_once = hashes_sorted_at_once(num_hash, length, table_rows),
                            .scale = static_cast<double>(exponent) / static_cast<double>(2 * num_hash)};
  const auto empty_like = [](const at::Tensor& x) { return at::empty(x.sizes(), x.options()); };
  const Gradients gradients{empty_like(query), empty_like(key), empty_like(value)};
  const auto visit = [&](auto sum_type, auto out_type) {
    using T = decltype(sum_type);
    const TokenData<T> queries(g, q, qc, qm, sizes.heads_at_once, sizes.hashes_at_once, table_rows, false);
    const TokenData<T> keys(v, k, kc, km, sizes.heads_at_once, sizes.hashes_at_once, table_rows, true);
    visit_heads<T, decltype(out_type)>(sizes, queries, keys, gradients);
  };
  if (out == at::kDouble) {
    visit(double{}, double{});
  } else if (out == at::kFloat) {
    visit(float{}, float{});
  } else if (out == at::kBFloat16) {
    visit(float{}, at::BFloat16{});
  } else {
    TORCH_CHECK_VALUE(out == at::kHalf, "value must be float64, float32, bfloat16 or float16, got ", out);
    visit(float{}, at::Half{});
  }
  return gradients;
}

}  // namespace yoso
