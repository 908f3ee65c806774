// Access to the rows of [B, H, N, D] tensors with any strides of B, H and N, scratch memory, and parallel loops over
// rows.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>

#include "kernel_interface.h"

namespace yoso {

inline int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// Scratch memory comes from torch's allocator, so that torch's profiler counts it.
template <typename T>
at::Tensor scratch(int64_t count) {
  return at::empty({count}, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value));
}

// The dtype of sums: double for double, otherwise float.
inline at::ScalarType accumulate_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// x in the given dtype with stride 1 in the last dimension. No copy is made if x already is like that.
inline at::Tensor as_rows(const at::Tensor& x, at::ScalarType type) {
  const at::Tensor typed = x.to(type);
  return typed.stride(-1) == 1 || typed.size(-1) == 1 ? typed : typed.contiguous();
}

// A view of the rows of a tensor [B, H, N, D] whose last dimension has stride 1.
template <typename T>
struct Rows {
  const T* data;
  int64_t heads, length, dim, stride_batch, stride_head, stride_row;

  explicit Rows(const at::Tensor& x)
      : data(x.const_data_ptr<T>()),
        heads(x.size(1)),
        length(x.size(2)),
        dim(x.size(3)),
        stride_batch(x.stride(0)),
        stride_head(x.stride(1)),
        stride_row(x.stride(2)) {}

  // The first row of head `index` of the B * H heads.
  const T* head(int64_t index) const { return data + index / heads * stride_batch + index % heads * stride_head; }

  // Copies columns [first, first + width) of rows [begin, end) of a head to `to` [end - begin][stride]. Each row is
  // padded with zeros to round_up(width, 16) columns. Rows whose mask is false become zero.
  void copy(int64_t index, int64_t begin, int64_t end, int64_t first, int64_t width, int64_t stride, const bool* mask,
            T* to) const {
    const int64_t count = std::min(width, dim - first), padded = round_up(width, kLanes);
    const T* from = head(index) + begin * stride_row + first;
    for (int64_t i = begin; i < end; ++i, from += stride_row, to += stride) {
      if (mask && !mask[i]) {
        std::fill_n(to, padded, T{0});
        continue;
      }
      std::copy_n(from, count, to);
      std::fill_n(to + count, padded - count, T{0});
    }
  }
};

// Writes the first `dim` columns of rows [rows][stride], multiplied by `scale`, to `to` [rows][dim].
template <typename T, typename Out>
void write_rows(const T* from, int64_t rows, int64_t stride, T scale, Out* to, int64_t dim) {
  for (int64_t i = 0; i < rows; ++i, from += stride, to += dim) {
    for (int64_t c = 0; c < dim; ++c) to[c] = static_cast<Out>(from[c] * scale);
  }
}

// Calls f(head, begin, end) for every chunk of at most `chunk` rows of every head, in parallel on torch's threads.
template <typename F>
void each_chunk(int64_t heads, int64_t rows, int64_t chunk, F f) {
  const int64_t chunks = (rows + chunk - 1) / chunk;
  at::parallel_for(0, heads * chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t begin = task % chunks * chunk;
      f(task / chunks, begin, std::min(begin + chunk, rows));
    }
  });
}

// The number of parts that each head is split into, so that a few heads keep several cores busy. The partial sums of
// the parts are then added in order. It depends only on the shape, so that results are bitwise the same for any number
// of threads.
inline int64_t parts_per_head(int64_t heads, int64_t max_parts) {
  constexpr int64_t kTasks = 8;
  return std::clamp<int64_t>((kTasks + heads - 1) / std::max<int64_t>(heads, 1), 1, std::max<int64_t>(max_parts, 1));
}

// Sums [heads, parts, rows, columns] over the parts, in order, to [heads, rows, columns]; overwrites part 0.
inline at::Tensor add_parts(const at::Tensor& parts) {
  at::Tensor sum = parts.select(1, 0);
  for (int64_t part = 1; part < parts.size(1); ++part) sum.add_(parts.select(1, part));
  return sum;
}

// Row `batch` of a bool mask [B, N], or null if there is no mask.
inline const bool* mask_row(const std::optional<at::Tensor>& mask, int64_t batch) {
  return mask ? mask->const_data_ptr<bool>() + batch * mask->size(1) : nullptr;
}

inline std::optional<at::Tensor> contiguous(const std::optional<at::Tensor>& mask) {
  return mask ? std::optional<at::Tensor>(mask->contiguous()) : std::nullopt;
}

}  // namespace yoso
