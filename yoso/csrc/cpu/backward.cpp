// lsh_attention_backward: both sides sorted by code, some hashes at a time. Small buckets are walked by each of their
// targets, whose sums stay in registers; large ones as a whole.
#include "../checks.h"
#include "large_buckets.h"
#include "ops.h"

namespace yoso {
namespace {

constexpr int64_t kChunk = 512;  // rows, or buckets, of one task

// Everything about one side: its rows [left | right], its codes, and where its gradients go.
template <typename T>
struct Side {
  Rows<T> left, right;
  const uint16_t* codes;
  const Mask& mask;
  int64_t length, left_dim, dim;
  at::Tensor space, right_space, left_space;
  CodeOrders orders;

  Side(const at::Tensor& left_rows, const at::Tensor& right_rows, const at::Tensor& all_codes, const Mask& real,
       int64_t heads, int64_t hashes, int64_t table_rows, bool to_left)
      : left(left_rows),
        right(right_rows),
        codes(all_codes.const_data_ptr<uint16_t>()),
        mask(real),
        length(left.length),
        left_dim(round_up(left.dim, kLanes)),
        dim(round_up(right.dim, kLanes)),
        space(scratch<T>(heads * length * (left_dim + dim))),
        right_space(scratch<T>(heads * length * dim)),
        left_space(to_left ? scratch<T>(heads * length * left_dim) : at::Tensor()),
        orders(heads, hashes, table_rows, length) {}

  T* rows(int64_t h) const { return space.mutable_data_ptr<T>() + h * length * (left_dim + dim); }
  T* to_right(int64_t h) const { return right_space.mutable_data_ptr<T>() + h * length * dim; }
  T* to_left(int64_t h) const {
    return left_space.defined() ? left_space.mutable_data_ptr<T>() + h * length * left_dim : nullptr;
  }
  const bool* real(int64_t head) const { return mask_row(mask, head / left.heads); }

  // Rows side by side, so that a pair finds all it needs of a token in one place, the right ones scaled to length 1;
  // gradients from zero.
  void prepare(int64_t head0, int64_t heads) const {
    each_chunk(heads, length, kChunk, [&](int64_t h, int64_t begin, int64_t end) {
      T* to = rows(h) + begin * (left_dim + dim);
      left.copy(head0 + h, begin, end, 0, left.dim, left_dim + dim, real(head0 + h), to);
      right.copy(head0 + h, begin, end, 0, right.dim, left_dim + dim, real(head0 + h), to + left_dim);
      scale_rows(
          RowBlock<T>{to + left_dim, nullptr, to + left_dim, left_dim + dim, 0, left_dim + dim, end - begin, dim});
      std::fill_n(to_right(h) + begin * dim, (end - begin) * dim, T{0});
      if (to_left(h)) std::fill_n(to_left(h) + begin * left_dim, (end - begin) * left_dim, T{0});
    });
  }
};

struct Sizes {
  int64_t all_heads, num_hash, table_rows, heads_at_once, hashes_at_once;
  double scale;
};

// A row has one bucket a hash: large buckets of one hash never write the same row, those of two would. So many of them
// share the cores hash by hash, few of them head by head.
template <typename T>
void visit_large(const Sizes& sizes, const Side<T>& queries, const Side<T>& keys, const LargeBuckets& large,
                 int64_t heads, int64_t hashes) {
  constexpr int64_t kMany = 32;
  const auto visit = [&](int64_t h, int64_t hash, int64_t begin, int64_t end) {
    if (begin >= end) return;
    const at::Tensor moment = scratch<T>(queries.left_dim * queries.dim);
    visit_buckets(PairedBuckets<T>{queries.orders.order(h, hash, 1), keys.orders.order(h, hash, 1),
                                   large.codes(h, hash), begin, end, queries.rows(h), keys.rows(h), queries.to_right(h),
                                   keys.to_right(h), keys.to_left(h), moment.mutable_data_ptr<T>(), queries.left_dim,
                                   queries.dim, static_cast<T>(sizes.scale)});
  };
  if (large.most(heads, 0, hashes) < kMany) {
    each_chunk(heads, 1, 1, [&](int64_t h, int64_t, int64_t) {
      for (int64_t hash = 0; hash < hashes; ++hash) visit(h, hash, 0, large.count(h, hash));
    });
    return;
  }
  for (int64_t hash = 0; hash < hashes; ++hash) {
    each_chunk(heads, large.most(heads, hash, hash + 1), kMany, [&](int64_t h, int64_t begin, int64_t end) {
      visit(h, hash, begin, std::min(end, large.count(h, hash)));
    });
  }
}

template <typename T>
void visit_small(const Sizes& sizes, const Side<T>& targets, const Side<T>& sources, int64_t head0, int64_t heads,
                 int64_t hash0, int64_t hashes) {
  each_chunk(heads, targets.length, kChunk, [&](int64_t h, int64_t begin, int64_t end) {
    const uint16_t* codes = targets.codes + ((head0 + h) * sizes.num_hash + hash0) * targets.length;
    visit_pairs(
        PairedRows<T>{{sources.orders.order(h, 0, hashes), codes, targets.length, begin, end, targets.real(head0 + h)},
                      targets.rows(h),
                      sources.rows(h),
                      targets.to_right(h),
                      targets.to_left(h),
                      targets.left_dim,
                      targets.dim,
                      static_cast<T>(sizes.scale)});
  });
}

template <typename T>
void visit_hashes(const Sizes& sizes, const Side<T>& queries, const Side<T>& keys, int64_t head0, int64_t heads,
                  int64_t hash0) {
  const int64_t hashes = std::min(sizes.hashes_at_once, sizes.num_hash - hash0);
  LargeBuckets large(heads, hashes, std::min(sizes.table_rows, std::max(queries.length, keys.length)));
  at::parallel_for(0, heads * hashes, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t h = task / hashes, hash = task % hashes, at = (head0 + h) * sizes.num_hash + hash0 + hash;
      queries.orders.sort(h, hash, queries.codes + at * queries.length, queries.real(head0 + h));
      keys.orders.sort(h, hash, keys.codes + at * keys.length, keys.real(head0 + h));
      large.mark(h, hash, queries.orders, keys.orders, sizes.table_rows);
    }
  });
  visit_large(sizes, queries, keys, large, heads, hashes);
  visit_small(sizes, queries, keys, head0, heads, hash0, hashes);
  visit_small(sizes, keys, queries, head0, heads, hash0, hashes);
}

// The gradients of the right rows, back through their scaling to length 1.
template <typename T, typename Out>
void write_right(const Side<T>& side, const at::Tensor& gradient, int64_t head0, int64_t heads) {
  const int64_t length = side.length, dim = side.right.dim;
  Out* out = gradient.mutable_data_ptr<Out>() + head0 * length * dim;
  each_chunk(heads, length, kChunk, [&](int64_t h, int64_t begin, int64_t end) {
    T* grads = side.to_right(h) + begin * side.dim;
    scale_rows(RowBlock<T>{side.right.head(head0 + h) + begin * side.right.stride_row, grads, grads,
                           side.right.stride_row, side.dim, side.dim, end - begin, dim});
    const bool* real = side.real(head0 + h);
    for (int64_t i = begin; real && i < end; ++i) {
      // What a masked row holds, NaN included, is nobody's.
      if (!real[i]) std::fill_n(grads + (i - begin) * side.dim, dim, T{0});
    }
    write_rows(grads, end - begin, side.dim, T{1}, out + (h * length + begin) * dim, dim);
  });
}

template <typename T, typename Out>
void write_left(const Side<T>& side, const at::Tensor& gradient, int64_t head0, int64_t heads, T by) {
  const int64_t length = side.length, dim = side.left.dim;
  Out* out = gradient.mutable_data_ptr<Out>() + head0 * length * dim;
  each_chunk(heads, length, kChunk, [&](int64_t h, int64_t begin, int64_t end) {
    const T* grads = side.to_left(h) + begin * side.left_dim;
    write_rows(grads, end - begin, side.left_dim, by, out + (h * length + begin) * dim, dim);
  });
}

using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor>;

template <typename T, typename Out>
void visit_heads(const Sizes& sizes, const Side<T>& queries, const Side<T>& keys, const Gradients& gradients) {
  const auto& [grad_query, grad_key, grad_value] = gradients;
  for (int64_t head0 = 0; head0 < sizes.all_heads; head0 += sizes.heads_at_once) {
    const int64_t heads = std::min(sizes.heads_at_once, sizes.all_heads - head0);
    queries.prepare(head0, heads);
    keys.prepare(head0, heads);
    for (int64_t hash0 = 0; hash0 < sizes.num_hash; hash0 += sizes.hashes_at_once) {
      visit_hashes(sizes, queries, keys, head0, heads, hash0);
    }
    write_right<T, Out>(queries, grad_query, head0, heads);
    write_right<T, Out>(keys, grad_key, head0, heads);
    write_left<T, Out>(keys, grad_value, head0, heads, T{1} / static_cast<T>(sizes.num_hash));
  }
}

}  // namespace

Gradients lsh_attention_backward(const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key,
                                 const at::Tensor& value, const at::Tensor& query_codes, const at::Tensor& key_codes,
                                 const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len) {
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
  const at::ScalarType type = accumulate_type(value), out = value.scalar_type();
  const at::Tensor g = as_rows(grad, type), q = as_rows(query, type), k = as_rows(key, type), v = as_rows(value, type);
  const at::Tensor qc = query_codes.contiguous(), kc = key_codes.contiguous();
  const Mask qm = contiguous(query_mask), km = contiguous(key_mask);
  const int64_t heads = query.size(0) * query.size(1), num_hash = query_codes.size(2);
  const int64_t length = std::max(query.size(2), key.size(2)), table_rows = int64_t{1} << hash_code_len;
  const Sizes sizes{heads,
                    num_hash,
                    table_rows,
                    heads_at_once(heads, length),
                    sorted_at_once(num_hash, length, table_rows),
                    static_cast<double>(hash_code_len) / static_cast<double>(2 * num_hash)};
  const auto like = [](const at::Tensor& x) { return at::empty(x.sizes(), x.options()); };
  const Gradients gradients{like(query), like(key), like(value)};
  const auto visit = [&](auto number, auto result) {
    using T = decltype(number);
    const Side<T> queries(g, q, qc, qm, sizes.heads_at_once, sizes.hashes_at_once, table_rows, false);
    const Side<T> keys(v, k, kc, km, sizes.heads_at_once, sizes.hashes_at_once, table_rows, true);
    visit_heads<T, decltype(result)>(sizes, queries, keys, gradients);
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
