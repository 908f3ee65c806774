// YOSO-E and its gradient, tile by tile: a matrix product, the collision probability, a matrix product. O(n) memory.
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include "../checks.h"
#include "ops.h"
#include "rows.h"

namespace yoso {
namespace {

// One tile of weights is 256 KiB of floats: it stays in the core's own cache between the two products.
constexpr int64_t kTileQueries = 128, kTileKeys = 512;

// [B, H, N, D] as contiguous [B * H, N, D] in the accumulation dtype, with masked rows zero.
at::Tensor heads_of(const at::Tensor& x, const Mask& mask) {
  at::Tensor rows = x.to(accumulate_type(x));
  if (mask) rows = rows.masked_fill(mask->logical_not().unsqueeze(1).unsqueeze(-1), 0);
  return rows.contiguous().view({x.size(0) * x.size(1), x.size(2), x.size(3)});
}

at::Tensor rows_of(const at::Tensor& heads, int64_t head, int64_t first, int64_t count) {
  return heads.select(0, head).narrow(0, first, std::min(count, heads.size(1) - first));
}

void to_weights(at::Tensor& cosines, int64_t hash_code_len) {
  if (cosines.scalar_type() == at::kDouble) {
    collision_probability(cosines.mutable_data_ptr<double>(), cosines.numel(), hash_code_len);
  } else {
    collision_probability(cosines.mutable_data_ptr<float>(), cosines.numel(), hash_code_len);
  }
}

void to_derivatives(at::Tensor& cosines, int64_t hash_code_len) {
  if (cosines.scalar_type() == at::kDouble) {
    collision_derivative(cosines.mutable_data_ptr<double>(), cosines.numel(), hash_code_len);
  } else {
    collision_derivative(cosines.mutable_data_ptr<float>(), cosines.numel(), hash_code_len);
  }
}

// A contiguous [rows, columns] at the start of the scratch.
at::Tensor tile(const at::Tensor& space, int64_t rows, int64_t columns) {
  return space.narrow(0, 0, rows * columns).view({rows, columns});
}

at::Tensor tile_space(const at::Tensor& like) { return at::empty({kTileQueries * kTileKeys}, like.options()); }

void check(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Mask& query_mask,
           const Mask& key_mask, int64_t hash_code_len) {
  check_hash_code_len(hash_code_len);
  check_attention(query, key, value);
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
}

}  // namespace

at::Tensor expectation(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Mask& query_mask,
                       const Mask& key_mask, int64_t hash_code_len, bool /*exact_gradient: the backward pass's*/) {
  check(query, key, value, query_mask, key_mask, hash_code_len);
  const at::Tensor q = heads_of(query, query_mask), k = heads_of(key, key_mask), v = heads_of(value, key_mask);
  at::Tensor out = at::zeros_like(q.narrow(2, 0, 1).expand({q.size(0), q.size(1), v.size(2)}),
                                  at::TensorOptions().memory_format(at::MemoryFormat::Contiguous));
  const int64_t tiles = (q.size(1) + kTileQueries - 1) / kTileQueries;
  at::parallel_for(0, q.size(0) * tiles, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView below;  // a worker thread does not know that autograd is already done
    at::Tensor space = tile_space(q);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / tiles, first = task % tiles * kTileQueries;
      const at::Tensor queries = rows_of(q, head, first, kTileQueries);
      at::Tensor sums = rows_of(out, head, first, kTileQueries);
      for (int64_t at = 0; at < k.size(1); at += kTileKeys) {
        const at::Tensor keys = rows_of(k, head, at, kTileKeys);
        at::Tensor weights = tile(space, queries.size(0), keys.size(0));
        at::mm_out(weights, queries, keys.t());
        to_weights(weights, hash_code_len);
        sums.addmm_(weights, rows_of(v, head, at, kTileKeys));
      }
    }
  });
  out = out.view({query.size(0), query.size(1), query.size(2), value.size(3)});
  if (query_mask) out.masked_fill_(query_mask->logical_not().unsqueeze(1).unsqueeze(-1), 0);
  return out.to(value.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> expectation_backward(const at::Tensor& grad, const at::Tensor& query,
                                                                    const at::Tensor& key, const at::Tensor& value,
                                                                    const Mask& query_mask, const Mask& key_mask,
                                                                    int64_t hash_code_len, bool exact_gradient) {
  check(query, key, value, query_mask, key_mask, hash_code_len);
  check_grad(grad, query, value);
  const at::Tensor q = heads_of(query, query_mask), k = heads_of(key, key_mask);
  const at::Tensor v = heads_of(value, key_mask), g = heads_of(grad, query_mask);
  const int64_t key_tiles = (k.size(1) + kTileKeys - 1) / kTileKeys, parts = parts_of_a_head(q.size(0), key_tiles);
  const int64_t part_keys = (key_tiles + parts - 1) / std::max<int64_t>(parts, 1) * kTileKeys;
  at::Tensor grad_key = at::zeros_like(k), grad_value = at::zeros_like(v);
  at::Tensor grad_query = at::zeros({q.size(0), parts, q.size(1), q.size(2)}, q.options());
  const double factor = exact_gradient ? 1.0 : static_cast<double>(hash_code_len) / 2;
  at::parallel_for(0, q.size(0) * parts, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor weight_space = tile_space(q), product_space = tile_space(q);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / parts, first_key = task % parts * part_keys;
      const int64_t last_key = std::min(first_key + part_keys, k.size(1));
      const at::Tensor own_grad_query = grad_query.select(0, head).select(0, task % parts);
      for (int64_t first = 0; first < q.size(1); first += kTileQueries) {
        const at::Tensor queries = rows_of(q, head, first, kTileQueries), grads = rows_of(g, head, first, kTileQueries);
        at::Tensor to_queries = own_grad_query.narrow(0, first, queries.size(0));
        for (int64_t at = first_key; at < last_key; at += kTileKeys) {
          const at::Tensor keys = rows_of(k, head, at, kTileKeys), values = rows_of(v, head, at, kTileKeys);
          at::Tensor to_keys = rows_of(grad_key, head, at, kTileKeys);
          at::Tensor to_values = rows_of(grad_value, head, at, kTileKeys);
          at::Tensor weights = tile(weight_space, queries.size(0), keys.size(0));
          at::Tensor products = tile(product_space, queries.size(0), keys.size(0));
          at::mm_out(weights, queries, keys.t());
          if (exact_gradient) products.copy_(weights);
          to_weights(weights, hash_code_len);
          to_values.addmm_(weights.t(), grads);
          if (exact_gradient) {
            weights.copy_(products);
            to_derivatives(weights, hash_code_len);
          }
          at::mm_out(products, grads, values.t());
          weights.mul_(products);
          to_queries.addmm_(weights, keys, 1, factor);
          to_keys.addmm_(weights.t(), queries, 1, factor);
        }
      }
    }
  });
  if (key_mask) {
    const at::Tensor real = key_mask->repeat_interleave(key.size(1), 0);
    grad_value.masked_fill_(real.logical_not().unsqueeze(-1), 0);
  }
  return {add_parts(grad_query).reshape(query.sizes()).to(query.scalar_type()).contiguous(),
          grad_key.view(key.sizes()).to(key.scalar_type()), grad_value.view(value.sizes()).to(value.scalar_type())};
}

}  // namespace yoso
