// The CPU kernels' interface: plain structs, no torch. Each kernel is compiled once an instruction set (isa_*.cpp) and
// chosen at run time. Nothing here allocates; the caller owns all memory.
#pragma once

#include <stdint.h>

namespace yoso {

// Lanes of a slice: 16 floats are one cache line, so a table row of one slice costs one line.
constexpr int kLanes = 16;

// Up to 16 vectors whose codes are made together.
struct HashTile {
  const float* rows;  // [count][dim], a row every `stride` floats
  int64_t stride, count, dim, padded_dim;
  float* work;      // [3][padded_dim][16] scratch
  uint32_t* bits;   // [num_hash + 1][16] scratch
  uint16_t* codes;  // out: code of hash h and vector i at [h * codes_stride + i]
  int64_t codes_stride, num_hash;
};

// A round multiplies by a row of signs and by the Hadamard matrix; all blocks start from the shared rounds.
struct HadamardHash {
  const float* signs;     // [shared_rounds + blocks * block_rounds][padded_dim] of +-1
  const int32_t* bit_of;  // [blocks][padded_dim] hash * 32 + bit that the coordinate's sign is; unused: hash num_hash
  int64_t shared_rounds, blocks, block_rounds;
  int64_t outputs;  // a power of two: coordinates from here on are unused in every block
};

struct GaussianHash {
  const float* directions;  // [num_hash * hash_code_len][dim]
  int64_t hash_code_len;
};

// sums[i] += sum_h sum_{j: key_codes[h][j] == query_codes[h][i]} values[j], for one slice of 16 columns.
// The additions of one sum always come in the order of h, then of j, whatever hashes_at_once.
template <typename T>
struct Cumulation {
  const uint16_t* query_codes;  // [num_hash][num_query]
  const uint16_t* key_codes;    // [num_hash][num_key]
  const T* values;              // [num_key][16]
  T* sums;                      // [num_query][16]
  T* tables;                    // [hashes_at_once][table_rows][16] scratch
  int64_t num_query, num_key, num_hash;
  int64_t table_rows;      // 2^hash_code_len
  int64_t hashes_at_once;  // 1, 2, 4 or 8
};

// The most hashes of one head that are looked up together.
constexpr int kMostHashes = 16;

// A bucket of more rows than this is never walked row by row for each of its readers.
constexpr int kFewRows = 8;

// Rows of one head ordered by code, for some hashes: those of hash h and code c are
// ids[h * stride + starts[h * (table_rows + 2) + c] ..], in their own order, up to the start of c + 1. The first id of
// a bucket that is not to be walked is inverted. Four more ids may be read behind those of a hash.
struct CodeOrder {
  const int32_t *starts, *ids;
  int64_t table_rows, stride, num_hash;
};

// Targets [first, last) that look up the buckets of their own codes.
struct Lookup {
  CodeOrder sources;
  const uint16_t* codes;  // [num_hash][codes_stride]
  int64_t codes_stride, first, last;
  const bool* real;  // targets that look up at all; null: every one
};

// Both sides of the gradient are rows [left | right]: gradient and query, or value and key. For every source s that
// shares a code with target t, with w = scale * left[t] . left[s]: to_right[t] += w right[s] and, where it is wanted,
// to_left[t] += left[s]. Buckets with an inverted id are left out.
template <typename T>
struct PairedRows {
  Lookup lookup;
  const T *targets, *sources;  // [*][left_dim + dim], both multiples of 16
  T *to_right, *to_left;       // [num_target][dim], [num_target][left_dim] or null
  int64_t left_dim, dim;
  T scale;
};

// The same for whole buckets of one hash, those of codes[first] to codes[last - 1], and for both sides at once.
template <typename T>
struct PairedBuckets {
  CodeOrder queries, keys;
  const uint16_t* codes;
  int64_t first, last;
  const T *query_rows, *key_rows;
  T *grad_query, *grad_key, *grad_value;
  T* moment;  // [left_dim][dim] scratch
  int64_t left_dim, dim;
  T scale;
};

// Rows to scale to length 1 or, with grad, to take the gradient of that for.
template <typename T>
struct RowBlock {
  const T *x, *grad;  // [count] rows of dim at the given strides; grad is null in the forward pass
  T* out;             // may be x or grad
  int64_t x_stride, grad_stride, out_stride, count, dim;
};

struct Kernels {
  void (*hash_hadamard)(const HashTile&, const HadamardHash&);
  void (*hash_gaussian)(const HashTile&, const GaussianHash&);
  void (*cumulate_float)(const Cumulation<float>&);
  void (*cumulate_double)(const Cumulation<double>&);
  void (*pairs_float)(const PairedRows<float>&);
  void (*pairs_double)(const PairedRows<double>&);
  void (*buckets_float)(const PairedBuckets<float>&);
  void (*buckets_double)(const PairedBuckets<double>&);
  // Replace count cosines by (1 - arccos(cosine) / pi) ** hash_code_len; beyond [-1, 1] they are clamped.
  void (*collision_float)(float* cosines, int64_t count, int64_t hash_code_len);
  void (*collision_double)(double* cosines, int64_t count, int64_t hash_code_len);
  // Replace count cosines by the derivative of that, cut off at angles below 1e-3, where it has its pole.
  void (*derivative_float)(float* cosines, int64_t count, int64_t hash_code_len);
  void (*derivative_double)(double* cosines, int64_t count, int64_t hash_code_len);
  void (*unit_rows_float)(const RowBlock<float>&);
  void (*unit_rows_double)(const RowBlock<double>&);
  void (*unit_rows_backward_float)(const RowBlock<float>&);
  void (*unit_rows_backward_double)(const RowBlock<double>&);
  const char* isa;
};

// The widest kernels that this processor runs.
const Kernels& kernels();

inline void cumulate(const Cumulation<float>& args) { kernels().cumulate_float(args); }
inline void cumulate(const Cumulation<double>& args) { kernels().cumulate_double(args); }
inline void visit_pairs(const PairedRows<float>& args) { kernels().pairs_float(args); }
inline void visit_pairs(const PairedRows<double>& args) { kernels().pairs_double(args); }
inline void visit_buckets(const PairedBuckets<float>& args) { kernels().buckets_float(args); }
inline void visit_buckets(const PairedBuckets<double>& args) { kernels().buckets_double(args); }
inline void collision_probability(float* x, int64_t count, int64_t tau) { kernels().collision_float(x, count, tau); }
inline void collision_probability(double* x, int64_t count, int64_t tau) { kernels().collision_double(x, count, tau); }
inline void collision_derivative(float* x, int64_t count, int64_t tau) { kernels().derivative_float(x, count, tau); }
inline void collision_derivative(double* x, int64_t count, int64_t tau) { kernels().derivative_double(x, count, tau); }
inline void scale_rows(const RowBlock<float>& rows) {
  (rows.grad ? kernels().unit_rows_backward_float : kernels().unit_rows_float)(rows);
}
inline void scale_rows(const RowBlock<double>& rows) {
  (rows.grad ? kernels().unit_rows_backward_double : kernels().unit_rows_double)(rows);
}

}  // namespace yoso
