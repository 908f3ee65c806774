// YOSO-E and its gradient, one tile of the weight matrix at a time: a matrix product, the collision probability, a
// matrix product. A task converts the rows of one head to the accumulation dtype, sets masked rows to zero and scales
// query and key to length 1.
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>

#include "../checks.h"
#include "head_rows.h"
#include "ops.h"

namespace yoso {
namespace {

// A float32 tile of weights is 256 KiB, so it stays in the L2 cache between the two matrix products.
constexpr int64_t kTileQueries = 128, kTileKeys = 512;

// Rows [first, first + count), or fewer at the end, as a view.
at::Tensor rows_of(const at::Tensor& head, int64_t first, int64_t count) {
  return head.narrow(0, first, std::min(count, head.size(0) - first));
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

// A contiguous [rows, columns] view of the start of the scratch memory.
at::Tensor tile(const at::Tensor& space, int64_t rows, int64_t columns) {
  return space.narrow(0, 0, rows * columns).view({rows, columns});
}

void check_arguments(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Mask& query_mask,
                     const Mask& key_mask, int64_t hash_code_len) {
  check_hash_code_len(hash_code_len);
  check_attention(query, key, value);
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
}

}  // namespace

at::Tensor expectation(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value, const Mask& query_mask,
                       const Mask& key_mask, int64_t hash_code_len,
                       bool /*exact_gradient: used by the backward pass only*/, bool unrounded) {
  check_arguments(query, key, value, query_mask, key_mask, hash_code_len);
  const int64_t heads = query.size(0) * query.size(1), num_query = query.size(2), num_key = key.size(2);
  const at::TensorOptions options = value.options().dtype(accumulate_type(value));
  at::Tensor out = at::zeros({heads, num_query, value.size(3)}, options);
  const int64_t tiles = (num_query + kTileQueries - 1) / kTileQueries;
  at::parallel_for(0, heads * tiles, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView below;  // dispatch state is per thread, so each worker must set it
    at::Tensor space = at::empty({kTileQueries * kTileKeys}, options), k, v;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / tiles, first = task % tiles * kTileQueries;
      if (task == begin || first == 0) {
        k = unit_head(key, key_mask, head, 0, num_key);
        v = head_rows(value, key_mask, head, 0, num_key);
      }
      const int64_t last = std::min(first + kTileQueries, num_query);
      const at::Tensor queries = unit_head(query, query_mask, head, first, last);
      at::Tensor sums = rows_of(out.select(0, head), first, kTileQueries);
      for (int64_t at = 0; at < num_key; at += kTileKeys) {
        const at::Tensor keys = rows_of(k, at, kTileKeys);
        at::Tensor weights = tile(space, queries.size(0), keys.size(0));
        at::mm_out(weights, queries, keys.t());
        to_weights(weights, hash_code_len);
        sums.addmm_(weights, rows_of(v, at, kTileKeys));
      }
    }
  });
  out = out.view({query.size(0), query.size(1), num_query, value.size(3)});
  if (query_mask) out.masked_fill_(query_mask->logical_not().unsqueeze(1).unsqueeze(-1), 0);
  return unrounded ? out : out.to(value.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> expectation_backward(const at::Tensor& grad, const at::Tensor& query,
                                                                    const at::Tensor& key, const at::Tensor& value,
                                                                    const Mask& query_mask, const Mask& key_mask,
                                                                    int64_t hash_code_len, bool exact_gradient) {
  check_arguments(query, key, value, query_mask, key_mask, hash_code_len);
  check_grad(grad, query, value);
  const int64_t heads = query.size(0) * query.size(1), num_query = query.size(2), num_key = key.size(2);
  const int64_t key_tiles = (num_key + kTileKeys - 1) / kTileKeys, parts = parts_per_head(heads, key_tiles);
  const int64_t keys_per_part = (key_tiles + parts - 1) / std::max<int64_t>(parts, 1) * kTileKeys;
  const at::TensorOptions options = value.options().dtype(accumulate_type(value));
  at::Tensor grad_query = at::zeros({heads, parts, num_query, query.size(3)}, options);
  const at::Tensor grad_key = at::zeros({heads, num_key, key.size(3)}, options);
  const at::Tensor grad_value = at::zeros({heads, num_key, value.size(3)}, options);
  // The authors' surrogate gradient replaces the derivative of a weight by tau / 2 times the weight.
  const double factor = exact_gradient ? 1.0 : static_cast<double>(hash_code_len) / 2;
  at::parallel_for(0, heads * parts, 1, [&](int64_t begin, int64_t end) {
    at::AutoDispatchBelowADInplaceOrView below;
    at::Tensor weight_space = at::empty({kTileQueries * kTileKeys}, options), product_space = weight_space.clone(), q,
               g;
    for (int64_t task = begin; task < end; ++task) {
      const int64_t head = task / parts, first_key = std::min(task % parts * keys_per_part, num_key);
      const int64_t part_size = std::min(keys_per_part, num_key - first_key);
      if (task == begin || task % parts == 0) {
        q = unit_head(query, query_mask, head, 0, num_query);
        g = head_rows(grad, query_mask, head, 0, num_query).to(q.scalar_type());
      }
      const at::Tensor k = unit_head(key, key_mask, head, first_key, first_key + part_size);
      const at::Tensor v = head_rows(value, key_mask, head, first_key, first_key + part_size);
      const at::Tensor part_grad_query = grad_query.select(0, head).select(0, task % parts);
      const at::Tensor part_grad_key = grad_key.select(0, head).narrow(0, first_key, part_size);
      const at::Tensor part_grad_value = grad_value.select(0, head).narrow(0, first_key, part_size);
      for (int64_t first = 0; first < num_query; first += kTileQueries) {
        const at::Tensor queries = rows_of(q, first, kTileQueries), grads = rows_of(g, first, kTileQueries);
        at::Tensor tile_grad_query = rows_of(part_grad_query, first, kTileQueries);
        for (int64_t at = 0; at < part_size; at += kTileKeys) {
          const at::Tensor keys = rows_of(k, at, kTileKeys), values = rows_of(v, at, kTileKeys);
          at::Tensor tile_grad_key = rows_of(part_grad_key, at, kTileKeys);
          at::Tensor tile_grad_value = rows_of(part_grad_value, at, kTileKeys);
          at::Tensor weights = tile(weight_space, queries.size(0), keys.size(0));
          at::Tensor products = tile(product_space, queries.size(0), keys.size(0));
          at::mm_out(weights, queries, keys.t());
          if (exact_gradient) products.copy_(weights);
          to_weights(weights, hash_code_len);
          tile_grad_value.addmm_(weights.t(), grads);
          if (exact_gradient) {
            weights.copy_(products);
            to_derivatives(weights, hash_code_len);
          }
          at::mm_out(products, grads, values.t());
          weights.mul_(products);
          tile_grad_query.addmm_(weights, keys, 1, factor);
          tile_grad_key.addmm_(weights.t(), queries, 1, factor);
        }
      }
    }
  });
  if (key_mask) {
    const at::Tensor mask = key_mask->repeat_interleave(key.size(1), 0);
    grad_value.masked_fill_(mask.logical_not().unsqueeze(-1), 0);
  }
  grad_query = add_parts(grad_query).contiguous();
  backward_through_scaling(query, query_mask, grad_query);
  backward_through_scaling(key, key_mask, grad_key);
  return {grad_query.view(query.sizes()).to(query.scalar_type()), grad_key.view(key.sizes()).to(key.scalar_type()),
          grad_value.view(value.sizes()).to(value.scalar_type())};
}

}  // namespace yoso
