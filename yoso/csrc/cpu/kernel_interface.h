// The interface of the CPU kernels: plain structs, no torch. kernels/*.h implements the kernels; isa_*.cpp compiles
// them once per instruction set and isa_dispatch.cpp chooses at run time. No kernel allocates memory: the caller owns
// all of it.
#pragma once

#include <stdint.h>

namespace yoso {

// SIMD lanes of a vector, and columns of a slice: 16 floats are one 64-byte cache line, so a row of a slice occupies
// one line.
constexpr int kLanes = 16;

// Up to 16 vectors that are hashed together.
struct HashTile {
  const float* rows;  // [count][dim], consecutive rows `stride` floats apart
  int64_t stride, count, dim, padded_dim;
  float* work;      // [3][padded_dim][16] scratch
  uint32_t* bits;   // [num_hash + 1][16] scratch
  uint16_t* codes;  // output: the code of vector i under hash h is at [h * codes_stride + i]
  int64_t codes_stride, num_hash;
};

// A round multiplies by a row of signs, then by the Hadamard matrix. The shared rounds are applied once; each block
// continues from their result with its own rounds.
struct HadamardHash {
  const float* signs;  // [shared_rounds + blocks * block_rounds][padded_dim], each +1 or -1
  // [blocks][padded_dim]: the code bit that the sign of a coordinate gives, as hash * 32 + bit. Unused coordinates have
  // hash == num_hash, whose bits are discarded.
  const int32_t* bit_of;
  int64_t shared_rounds, blocks, block_rounds;
  int64_t outputs;  // a power of two; no block uses coordinates from this one on
};

struct GaussianHash {
  const float* directions;  // [num_hash * hash_code_len][dim]
  int64_t hash_code_len;
};

// sums[i] += sum_h sum_{j: key_codes[h][j] == query_codes[h][i]} values[j], for one slice of 16 columns.
// The terms of a sum are always added in the order of h, then of j, whatever hashes_at_once is.
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

// The largest number of hashes of one head that the small-bucket kernel looks up together.
constexpr int kMaxHashesAtOnce = 16;

// The largest number of rows in a bucket that the small-bucket kernel reads.
constexpr int kMaxSmallBucketRows = 8;

// Rows of one head grouped by code (the result of a counting sort), for several hashes. The bucket of hash h and code c
// is ids[h * stride + i] for i from starts[h * (table_rows + 2) + c] up to, not including, the start of c + 1; ids are
// ascending. The first id of a large bucket is stored as its bitwise complement, which is negative. At least four more
// ids can be read after the last one of each hash.
struct Buckets {
  const int32_t *starts, *ids;
  int64_t table_rows, stride, num_hash;
};

// The bucket that a target's code selects under one hash: ids[start .. start + size) of the hash, with its first four
// ids, which are those of the next buckets where it is smaller.
struct BucketHead {
  int32_t first_ids[4];
  int32_t start, size;
};

// Targets [first, last), and the buckets of sources that their codes select.
struct BucketLookup {
  Buckets sources;
  const uint16_t* codes;  // [num_hash][codes_stride]
  int64_t codes_stride, first, last;
  const bool* mask;  // [num_target], false for targets to skip; null: none is skipped
};

// The sampled gradient from the small buckets, for one kind of target: queries or keys.
// A token's row is [payload | unit]. For a query the payload is the upstream gradient and unit is the query scaled to
// length 1; for a key the payload is the value and unit is the key scaled to length 1.
// For every source s in a bucket of target t, with w = scale * payload[t] . payload[s]:
// grad_unit[t] += w unit[s] and, unless grad_payload is null, grad_payload[t] += payload[s].
template <typename T>
struct SmallBucketGradient {
  BucketLookup lookup;
  const T *targets, *sources;   // [*][payload_dim + unit_dim], both multiples of 16
  T *grad_unit, *grad_payload;  // [num_target][unit_dim], [num_target][payload_dim] or null
  int64_t payload_dim, unit_dim;
  T scale;
};

// The same gradient from large buckets of one hash, those of codes[first] to codes[last - 1], for queries and keys at
// once. grad_value is the keys' grad_payload.
template <typename T>
struct LargeBucketGradient {
  Buckets queries, keys;
  const uint16_t* codes;
  int64_t first, last;
  const T *query_rows, *key_rows;
  T *grad_query, *grad_key, *grad_value;
  T* moment;  // [payload_dim][unit_dim] scratch
  int64_t payload_dim, unit_dim;
  T scale;
};

// The number of queries whose buckets the rescored estimator looks up together.
constexpr int kQueriesPerLookup = 32;

// The keys that a query collides with, each once, in scratch memory.
struct ListedKeys {
  int32_t* ids;  // [max_listed + 1]
  int64_t count;
};

// A pair of the rescored estimator, as one of its tokens stores it: the other token, what the value is multiplied by,
// and what the unit rows are multiplied by in each other's gradient.
template <typename T>
struct RescoredPair {
  int32_t other;
  T weight, slope;
};

// The rescored estimator for the queries [first, last) of one head, which are blocks of [last - first] rows below.
// A query's columns are the shared keys and, last, the mean of all values. It rescores the columns and the keys that it
// collides with in a hash that `fits` allows; the latter are its listed keys.
template <typename T>
struct RescoredQueries {
  Buckets keys;                  // of all hashes; no bucket is marked as large
  const uint16_t* codes;         // [num_hash][codes_stride]
  const uint8_t* fits;           // [num_query][num_hash], 1 where the query rescores the bucket of the hash
  const bool* mask;              // [num_query], false for queries without an output; null: all have one
  const int32_t* shared_column;  // [num_key], the column of a shared key, -1 for other keys
  int64_t codes_stride, first, last, num_key, columns, hash_code_len;
  // A row is [payload | unit]: the value and the unit key, or the upstream gradient and the unit query. Both dims are
  // multiples of 16. In the forward pass queries have no payload.
  const T *key_rows, *query_rows;
  int64_t payload_dim, unit_dim;
  T share, floor;     // the chance that a key is shared, and the smallest chance that a weight is divided by
  bool rest;          // whether the mean of the values gets the weight that the floor takes away
  T* column_weights;  // [rows][columns], in: cosines; out: what the columns' values are multiplied by
  T* sums;            // forward: [rows][payload_dim], the weighted sum of the listed keys' values
  // Backward only.
  T* column_slopes;        // [rows][columns], in: products of payloads; out: what the columns' unit rows get
  T* grad_unit;            // [rows][unit_dim], the gradient of the unit query from the listed keys
  const int64_t* offsets;  // [num_query], where the pairs of a query begin
  int64_t* counts;         // [num_query], how many they are
  RescoredPair<T>* pairs;  // `other` is the key
  // Scratch.
  BucketHead* heads;               // [num_hash][kQueriesPerLookup]
  int32_t* last_seen;              // [num_key]
  int32_t* found;                  // [max_found + 4], the keys of a query's buckets, each as often as it collides
  ListedKeys listed[2];            // of a query and of the next one
  T *weights, *beyond, *products;  // [columns + max_listed + 16]
};

// The gradients of the keys [first, last) from pairs sorted by key, whose `other` is the query: those of key j begin at
// starts[j]. grads[j] = [sum weight * payload | sum slope * unit] of the queries, whose rows are as above.
template <typename T>
struct RescoredKeys {
  const int64_t* starts;
  const RescoredPair<T>* pairs;
  const T* query_rows;
  T* grads;
  int64_t first, last, payload_dim, unit_dim;
};

// Rows to divide by sqrt(|x|^2 + floor^2) or, if grad is not null, the gradient to pass back through that. With a floor
// of 0, rows are scaled to length 1.
template <typename T>
struct RowBlock {
  const T *x, *grad;  // [count] rows of length dim at these strides; grad is null in the forward pass
  T* out;             // may be x or grad
  int64_t x_stride, grad_stride, out_stride, count, dim;
  T floor = 0;
  T* grad_floor = nullptr;  // [count], each row's share of the gradient of floor; or null
};

// One implementation of every kernel, compiled for the instruction set `isa`.
struct Kernels {
  void (*hash_hadamard)(const HashTile&, const HadamardHash&);
  void (*hash_gaussian)(const HashTile&, const GaussianHash&);
  void (*cumulate_float)(const Cumulation<float>&);
  void (*cumulate_double)(const Cumulation<double>&);
  void (*small_buckets_float)(const SmallBucketGradient<float>&);
  void (*small_buckets_double)(const SmallBucketGradient<double>&);
  void (*large_buckets_float)(const LargeBucketGradient<float>&);
  void (*large_buckets_double)(const LargeBucketGradient<double>&);
  void (*rescore_forward_float)(const RescoredQueries<float>&);
  void (*rescore_forward_double)(const RescoredQueries<double>&);
  void (*rescore_backward_float)(const RescoredQueries<float>&);
  void (*rescore_backward_double)(const RescoredQueries<double>&);
  void (*rescored_keys_float)(const RescoredKeys<float>&);
  void (*rescored_keys_double)(const RescoredKeys<double>&);
  // Replace each of count cosines by (1 - arccos(cosine) / pi) ** hash_code_len. Cosines outside [-1, 1] are clamped.
  void (*collision_float)(float* cosines, int64_t count, int64_t hash_code_len);
  void (*collision_double)(double* cosines, int64_t count, int64_t hash_code_len);
  // Replace each of count cosines by the derivative of that function. It has a pole at angle 0, so the sine of the
  // angle in its denominator is bounded below by 1e-3.
  void (*derivative_float)(float* cosines, int64_t count, int64_t hash_code_len);
  void (*derivative_double)(double* cosines, int64_t count, int64_t hash_code_len);
  void (*unit_rows_float)(const RowBlock<float>&);
  void (*unit_rows_double)(const RowBlock<double>&);
  void (*unit_rows_backward_float)(const RowBlock<float>&);
  void (*unit_rows_backward_double)(const RowBlock<double>&);
  const char* isa;
};

// The kernels for the widest instruction set that this processor supports.
const Kernels& kernels();

inline void cumulate(const Cumulation<float>& args) { kernels().cumulate_float(args); }
inline void cumulate(const Cumulation<double>& args) { kernels().cumulate_double(args); }
inline void add_small_bucket_gradient(const SmallBucketGradient<float>& args) { kernels().small_buckets_float(args); }
inline void add_small_bucket_gradient(const SmallBucketGradient<double>& args) { kernels().small_buckets_double(args); }
inline void add_large_bucket_gradient(const LargeBucketGradient<float>& args) { kernels().large_buckets_float(args); }
inline void add_large_bucket_gradient(const LargeBucketGradient<double>& args) { kernels().large_buckets_double(args); }
inline void rescore(const RescoredQueries<float>& args) {
  (args.grad_unit ? kernels().rescore_backward_float : kernels().rescore_forward_float)(args);
}
inline void rescore(const RescoredQueries<double>& args) {
  (args.grad_unit ? kernels().rescore_backward_double : kernels().rescore_forward_double)(args);
}
inline void add_pairs(const RescoredKeys<float>& args) { kernels().rescored_keys_float(args); }
inline void add_pairs(const RescoredKeys<double>& args) { kernels().rescored_keys_double(args); }
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
