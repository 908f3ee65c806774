// Rows of a [B, H, N, D] tensor at any strides of B, H and N, and copies of them in padded scratch.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <optional>

#include "kernels.h"

namespace yoso {

inline int64_t round_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// Scratch comes from torch's allocator, so that its profiler sees it.
template <typename T>
at::Tensor scratch(int64_t count) {
  return at::empty({count}, at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value));
}

// The dtype that sums are made in: double for double, else float.
inline at::ScalarType accumulate_type(const at::Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// x in the type T with unit stride in the last dimension; no copy where it is so already.
inline at::Tensor as_rows(const at::Tensor& x, at::ScalarType type) {
  const at::Tensor typed = x.to(type);
  return typed.stride(-1) == 1 || typed.size(-1) == 1 ? typed : typed.contiguous();
}

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

  const T* head(int64_t index) const { return data + index / heads * stride_batch + index % heads * stride_head; }

  // Columns [first, first + width) of a head's rows [begin, end) to `to` [end - begin][stride]; the rest of a row's
  // first round_up(width, 16) columns is zero, and so are rows whose mask is false.
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

// The first `dim` of each row's `stride` numbers, times `by`, to rows of dim.
template <typename T, typename Out>
void write_rows(const T* from, int64_t rows, int64_t stride, T by, Out* to, int64_t dim) {
  for (int64_t i = 0; i < rows; ++i, from += stride, to += dim) {
    for (int64_t c = 0; c < dim; ++c) to[c] = static_cast<Out>(from[c] * by);
  }
}

// Calls f(head, begin, end) for every chunk of every head's rows, over torch's threads.
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

// Few heads are split further, so that they keep several cores busy: into this many parts each, whose sums are then
// added in order. It depends on the shape alone, so that the bits do not depend on the number of threads.
inline int64_t parts_of_a_head(int64_t heads, int64_t most) {
  constexpr int64_t kTasks = 8;
  return std::clamp<int64_t>((kTasks + heads - 1) / std::max<int64_t>(heads, 1), 1, std::max<int64_t>(most, 1));
}

// [heads, parts, rows, columns] added up over its parts, in order: [heads, rows, columns].
inline at::Tensor add_parts(const at::Tensor& parts) {
  at::Tensor sum = parts.select(1, 0);
  for (int64_t part = 1; part < parts.size(1); ++part) sum.add_(parts.select(1, part));
  return sum;
}

// Row b of a bool mask [B, N], or null where there is none.
inline const bool* mask_row(const std::optional<at::Tensor>& mask, int64_t batch) {
  return mask ? mask->const_data_ptr<bool>() + batch * mask->size(1) : nullptr;
}

inline std::optional<at::Tensor> contiguous(const std::optional<at::Tensor>& mask) {
  return mask ? std::optional<at::Tensor>(mask->contiguous()) : std::nullopt;
}

}  // namespace yoso
