// rescored_attention and its gradient. Keys are sorted into buckets by code; each query rescores the keys of its
// buckets, and the keys that all queries share are matrix products. The collisions of crowded hashes are added by the
// operators of the plain estimator, which are given codes that let no others collide.
#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

#include <vector>

#include "../checks.h"
#include "buckets.h"
#include "head_rows.h"
#include "ops.h"

namespace yoso {
namespace {

constexpr int64_t kRowsPerTask = 256;

struct RescoredArguments {
  at::Tensor grad, query, key, value;  // in the dtype of the sums; grad is undefined in the forward pass
  at::Tensor query_codes, key_codes, shared_key_ids;
  Mask query_mask, key_mask;
  int64_t hash_code_len, keys_per_query;
  double floor;
  bool rest;

  int64_t heads() const { return query.size(0) * query.size(1); }
  int64_t num_query() const { return query.size(2); }
  int64_t num_key() const { return key.size(2); }
  int64_t num_hash() const { return query_codes.size(2); }
  int64_t table_rows() const { return int64_t{1} << hash_code_len; }
  const bool* query_mask_of(int64_t head) const { return mask_row(query_mask, head / query.size(1)); }
  const bool* key_mask_of(int64_t head) const { return mask_row(key_mask, head / query.size(1)); }
  const uint16_t* query_codes_of(int64_t head) const {
    return query_codes.const_data_ptr<uint16_t>() + head * num_hash() * num_query();
  }
  const uint16_t* key_codes_of(int64_t head) const {
    return key_codes.const_data_ptr<uint16_t>() + head * num_hash() * num_key();
  }
};

// Results in the dtype of the sums, [B * H, N, D]. The forward pass has only `sums`, the backward pass all others.
struct RescoredResults {
  at::Tensor sums, grad_query, grad_key, grad_value;
};

// Rows [payload | unit] of several heads, each part padded to a multiple of 16 columns; unit has length 1, and masked
// rows are zero.
template <typename T>
class PackedRows {
 public:
  PackedRows(const at::Tensor& payload, const at::Tensor& unit, int64_t heads)
      : payload_(payload.defined() ? std::optional<Rows<T>>(payload) : std::nullopt),
        unit_(unit),
        payload_dim_(payload_ ? round_up(payload_->dim, kLanes) : 0),
        stride_(payload_dim_ + round_up(unit_.dim, kLanes)),
        space_(at::empty({heads, unit_.length, stride_}, unit.options())) {}

  // Fills rows [begin, end) of head h from head `index` of the tensors.
  void pack(int64_t h, int64_t index, int64_t begin, int64_t end, const bool* mask) const {
    T* to = space_.template mutable_data_ptr<T>() + (h * unit_.length + begin) * stride_;
    if (payload_) payload_->copy(index, begin, end, 0, payload_->dim, stride_, mask, to);
    T* unit = to + payload_dim_;
    unit_.copy(index, begin, end, 0, unit_.dim, stride_, mask, unit);
    scale_rows(RowBlock<T>{unit, nullptr, unit, stride_, 0, stride_, end - begin, stride_ - payload_dim_});
  }

  const T* rows(int64_t h) const { return space_.template const_data_ptr<T>() + h * unit_.length * stride_; }
  int64_t stride() const { return stride_; }
  at::Tensor payload(int64_t h, int64_t begin, int64_t end) const {
    return space_.select(0, h).narrow(0, begin, end - begin).narrow(1, 0, payload_dim_);
  }
  at::Tensor unit(int64_t h, int64_t begin, int64_t end) const {
    return space_.select(0, h).narrow(0, begin, end - begin).narrow(1, payload_dim_, stride_ - payload_dim_);
  }

 private:
  std::optional<Rows<T>> payload_;
  Rows<T> unit_;
  int64_t payload_dim_, stride_;
  at::Tensor space_;
};

// What one head's queries share: the shared keys that are real, and the mean of the real keys' values.
template <typename T>
struct SharedKeys {
  std::vector<int32_t> ids;  // distinct
  at::Tensor column_space;   // int32 [num_key]: the column of each shared key, -1 for the others
  at::Tensor rows;           // [columns][payload + unit]: the keys' rows, then [mean value | 0]
  int64_t num_real = 0;

  const int32_t* columns() const { return column_space.const_data_ptr<int32_t>(); }
  T share() const { return static_cast<T>(ids.size()) / static_cast<T>(std::max<int64_t>(num_real, 1)); }

  void find(const RescoredArguments& args, int64_t head, const T* key_rows, int64_t stride, int64_t payload_dim) {
    const int64_t num_key = args.num_key(), count = args.shared_key_ids.size(2);
    const bool* mask = args.key_mask_of(head);
    const int64_t* all = args.shared_key_ids.const_data_ptr<int64_t>() + head * count;
    column_space = scratch<int32_t>(num_key);
    int32_t* column = column_space.mutable_data_ptr<int32_t>();
    std::fill_n(column, num_key, -1);
    for (int64_t k = 0; k < count; ++k) {
      if ((mask && !mask[all[k]]) || column[all[k]] >= 0) continue;
      column[all[k]] = static_cast<int32_t>(ids.size());
      ids.push_back(static_cast<int32_t>(all[k]));
    }
    const int64_t columns = static_cast<int64_t>(ids.size()) + 1;
    rows = at::empty({columns, stride}, args.value.options());
    T* to = rows.mutable_data_ptr<T>();
    for (const int32_t id : ids) to = std::copy_n(key_rows + id * stride, stride, to);
    std::fill_n(to, stride, T{0});
    for (int64_t j = 0; j < num_key; ++j) {
      num_real += !mask || mask[j];
      for (int64_t c = 0; c < payload_dim; ++c) to[c] += key_rows[j * stride + c];
    }
    for (int64_t c = 0; c < payload_dim; ++c) to[c] /= static_cast<T>(std::max<int64_t>(num_real, 1));
  }
};

// Which hashes of each query are rescored, and how many keys their buckets have together.
struct RescoredHashes {
  at::Tensor fits_space, offset_space, crowded_space;
  int64_t num_query, num_hash;

  RescoredHashes(int64_t heads, int64_t queries, int64_t hashes)
      : fits_space(scratch<uint8_t>(heads * queries * hashes)),
        offset_space(scratch<int64_t>(heads * (queries + 1))),
        crowded_space(scratch<uint8_t>(heads * queries)),
        num_query(queries),
        num_hash(hashes) {}

  uint8_t* fits(int64_t h) const { return fits_space.mutable_data_ptr<uint8_t>() + h * num_query * num_hash; }
  uint8_t* crowded(int64_t h) const { return crowded_space.mutable_data_ptr<uint8_t>() + h * num_query; }
  int64_t* offsets(int64_t h) const { return offset_space.mutable_data_ptr<int64_t>() + h * (num_query + 1); }
  bool any_crowded(int64_t h) const {
    return std::find(crowded(h), crowded(h) + num_query, 1) != crowded(h) + num_query;
  }

  // For queries [begin, end) of head h; offsets become the numbers of keys, shifted by one place.
  void find(int64_t h, const Buckets& keys, const uint16_t* codes, const bool* mask, int64_t keys_per_query,
            int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      int64_t left = keys_per_query;
      uint8_t* fit = fits(h) + i * num_hash;
      bool all_fit = true;
      for (int64_t hash = 0; hash < num_hash; ++hash) {
        const int32_t* start = keys.starts + hash * (keys.table_rows + 2) + codes[hash * num_query + i];
        const int64_t size = start[1] - start[0];
        fit[hash] = size <= left;
        all_fit = all_fit && size <= left;
        left -= size <= left ? size : 0;
      }
      const bool masked = mask && !mask[i];
      crowded(h)[i] = !masked && !all_fit;
      offsets(h)[i + 1] = masked ? 0 : keys_per_query - left;
    }
  }

  void add_up_offsets(int64_t h) const {
    int64_t* offset = offsets(h);
    offset[0] = 0;
    for (int64_t i = 0; i < num_query; ++i) offset[i + 1] += offset[i];
  }
};

// The pairs of one head, as the queries list them and sorted by key, and the queries' columns.
template <typename T>
struct Pairs {
  at::Tensor counts, listed_space, starts, sorted_space;
  at::Tensor column_weights, column_slopes;  // [num_query][columns]

  Pairs(int64_t num_query, int64_t num_key, int64_t columns, int64_t most, const at::TensorOptions& options)
      : counts(scratch<int64_t>(num_query)),
        listed_space(space(most)),
        starts(scratch<int64_t>(num_key + 2)),
        column_weights(at::empty({num_query, columns}, options)),
        column_slopes(at::empty({num_query, columns}, options)) {}

  static at::Tensor space(int64_t count) {
    return scratch<uint8_t>(count * static_cast<int64_t>(sizeof(RescoredPair<T>)));
  }
  static RescoredPair<T>* data(const at::Tensor& space) {
    return reinterpret_cast<RescoredPair<T>*>(space.mutable_data_ptr<uint8_t>());
  }

  void sort_by_key(const int64_t* offsets, int64_t num_query, int64_t num_key) {
    const int64_t* count = counts.template const_data_ptr<int64_t>();
    const RescoredPair<T>* listed = data(listed_space);
    int64_t* start = starts.template mutable_data_ptr<int64_t>();
    // Shifted by two places, as in BucketStorage::sort.
    std::fill_n(start, num_key + 2, 0);
    for (int64_t i = 0; i < num_query; ++i) {
      for (int64_t k = offsets[i]; k < offsets[i] + count[i]; ++k) ++start[listed[k].other + 2];
    }
    for (int64_t j = 2; j <= num_key + 1; ++j) start[j] += start[j - 1];
    sorted_space = space(start[num_key + 1]);
    RescoredPair<T>* sorted = data(sorted_space);
    for (int64_t i = 0; i < num_query; ++i) {
      for (int64_t k = offsets[i]; k < offsets[i] + count[i]; ++k) {
        sorted[start[listed[k].other + 1]++] = {static_cast<int32_t>(i), listed[k].weight, listed[k].slope};
      }
    }
  }
};

// Codes of one head that are equal only where a query and a key collide in a crowded hash of the query: the codes of
// crowded buckets are numbered, and all other queries and keys get one of two codes that nothing collides with.
struct CrowdedCodes {
  static constexpr int64_t kCodes = 0xFFFE;  // numbers per round; with more, a head has several rounds
  static constexpr uint16_t kOtherKeys = 0xFFFE, kOtherQueries = 0xFFFF;
  int64_t head;
  at::Tensor query_codes, key_codes;  // uint16 [num_hash, N]
  int64_t most_codes = 0;             // of any hash, in this and later rounds

  CrowdedCodes(const RescoredArguments& args, const RescoredHashes& hashes, int64_t head, int64_t h, int64_t round)
      : head(head),
        query_codes(at::empty({args.num_hash(), args.num_query()}, args.query_codes.options())),
        key_codes(at::empty({args.num_hash(), args.num_key()}, args.key_codes.options())) {
    const int64_t num_hash = args.num_hash(), num_query = args.num_query(), num_key = args.num_key();
    const bool* mask = args.query_mask_of(head);
    const uint8_t* fits = hashes.fits(h);
    const at::Tensor number_space = scratch<int32_t>(args.table_rows());
    int32_t* number = number_space.mutable_data_ptr<int32_t>();
    for (int64_t hash = 0; hash < num_hash; ++hash) {
      const uint16_t *query = args.query_codes_of(head) + hash * num_query,
                     *key = args.key_codes_of(head) + hash * num_key;
      uint16_t *to_query = query_codes.mutable_data_ptr<uint16_t>() + hash * num_query,
               *to_key = key_codes.mutable_data_ptr<uint16_t>() + hash * num_key;
      std::fill_n(number, args.table_rows(), -1);
      const int64_t first = round * kCodes;
      int64_t count = 0;
      const auto in_round = [&](int64_t n) { return first <= n && n < first + kCodes; };
      for (int64_t i = 0; i < num_query; ++i) {
        to_query[i] = kOtherQueries;
        if (fits[i * num_hash + hash] || (mask && !mask[i])) continue;
        int32_t& of_code = number[query[i]];
        if (of_code < 0) of_code = static_cast<int32_t>(count++);
        if (in_round(of_code)) to_query[i] = static_cast<uint16_t>(of_code - first);
      }
      for (int64_t j = 0; j < num_key; ++j) {
        const int64_t of_code = number[key[j]];
        to_key[j] = in_round(of_code) ? static_cast<uint16_t>(of_code - first) : kOtherKeys;
      }
      most_codes = std::max(most_codes, count - first);
    }
  }
};

// The crowded codes of several heads together, [count, 1, num_hash, N] with as few bits as they need.
struct CrowdedHeads {
  at::Tensor heads, query_codes, key_codes;
  int64_t hash_code_len = 1;

  explicit CrowdedHeads(const std::vector<CrowdedCodes>& all) {
    std::vector<int64_t> ids;
    std::vector<at::Tensor> queries, keys;
    int64_t most = 0;
    for (const CrowdedCodes& codes : all) {
      ids.push_back(codes.head);
      queries.push_back(codes.query_codes.view(at::kShort));
      keys.push_back(codes.key_codes.view(at::kShort));
      most = std::max(most, std::min(codes.most_codes, CrowdedCodes::kCodes));
    }
    while ((int64_t{1} << hash_code_len) < most + 2) ++hash_code_len;
    // The two codes that nothing collides with become the largest two of this many bits.
    const int64_t bits = static_cast<int16_t>((int64_t{1} << hash_code_len) - 1);
    heads = at::tensor(ids);
    query_codes = at::stack(queries).bitwise_and_(bits).view(at::kUInt16).unsqueeze(1);
    key_codes = at::stack(keys).bitwise_and_(bits).view(at::kUInt16).unsqueeze(1);
  }
};

// Scratch memory of one task. `found` is the largest number of keys in a query's buckets, of which at most num_key are
// distinct.
template <typename T>
class TaskScratch {
 public:
  TaskScratch(int64_t num_hash, int64_t num_key, int64_t found, int64_t columns)
      : num_key_(num_key),
        found_(found),
        listed_(std::min(found, num_key) + 1),
        places_(columns + listed_ + kLanes),
        heads_(scratch<uint8_t>(num_hash * kQueriesPerLookup * static_cast<int64_t>(sizeof(BucketHead)))),
        integers_(scratch<int32_t>(num_key + found + 4 + 2 * listed_)),
        reals_(scratch<T>(3 * places_)) {}

  void lend_to(RescoredQueries<T>& args) const {
    args.heads = reinterpret_cast<BucketHead*>(heads_.mutable_data_ptr<uint8_t>());
    int32_t* integers = integers_.mutable_data_ptr<int32_t>();
    T* reals = reals_.template mutable_data_ptr<T>();
    args.last_seen = integers, args.found = integers + num_key_;
    for (int64_t k = 0; k < 2; ++k) args.listed[k] = {args.found + found_ + 4 + k * listed_, 0};
    args.weights = reals, args.beyond = reals + places_, args.products = reals + 2 * places_;
  }

 private:
  int64_t num_key_, found_, listed_, places_;
  at::Tensor heads_, integers_, reals_;
};

// The matrix product. mm_out keeps the dtype under autocast, in which a backward pass may run; mm does not.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  at::Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
  return at::mm_out(out, a, b);
}

// Several heads: their rows, buckets and shared keys, and the passes over them.
template <typename T>
class RescoredHeads {
 public:
  RescoredHeads(const RescoredArguments& args, int64_t heads)
      : args_(args),
        key_rows_(args.value, args.key, heads),
        query_rows_(args.grad, args.query, heads),
        payload_dim_(round_up(args.value.size(3), kLanes)),
        unit_dim_(round_up(args.key.size(3), kLanes)),
        storage_(heads, args.num_hash(), args.table_rows(), args.num_key()),
        hashes_(heads, args.num_query(), args.num_hash()) {}

  // Writes `results`, and appends the codes of heads that have a crowded hash to `crowded`.
  void visit(int64_t head0, int64_t heads, const RescoredResults& results, std::vector<CrowdedCodes>& crowded) {
    prepare(head0, heads);
    for (int64_t h = 0; h < heads; ++h) {
      if (!hashes_.any_crowded(h)) continue;
      for (int64_t round = 0, most = 1; round * CrowdedCodes::kCodes < most; ++round) {
        crowded.emplace_back(args_, hashes_, head0 + h, h, round);
        most = crowded.back().most_codes + round * CrowdedCodes::kCodes;
      }
    }
    if (args_.grad.defined()) {
      backward(head0, heads, results);
    } else {
      forward(head0, heads, results.sums);
    }
  }

 private:
  void prepare(int64_t head0, int64_t heads) {
    const int64_t num_hash = args_.num_hash(), num_key = args_.num_key(), num_query = args_.num_query();
    each_chunk(heads, num_hash, 1, [&](int64_t h, int64_t hash, int64_t) {
      const int64_t head = head0 + h;
      storage_.sort(h, hash, args_.key_codes_of(head) + hash * num_key, args_.key_mask_of(head));
    });
    each_chunk(heads, num_key, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
      key_rows_.pack(h, head0 + h, begin, end, args_.key_mask_of(head0 + h));
    });
    each_chunk(heads, num_query, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
      const int64_t head = head0 + h;
      query_rows_.pack(h, head, begin, end, args_.query_mask_of(head));
      hashes_.find(h, storage_.buckets(h, 0, num_hash), args_.query_codes_of(head), args_.query_mask_of(head),
                   args_.keys_per_query, begin, end);
    });
    shared_.assign(heads, {});
    each_chunk(heads, 1, 1, [&](int64_t h, int64_t, int64_t) {
      at::AutoDispatchBelowADInplaceOrView below;  // dispatch state is per thread, so each worker must set it
      shared_[h].find(args_, head0 + h, key_rows_.rows(h), key_rows_.stride(), payload_dim_);
      hashes_.add_up_offsets(h);
    });
  }

  RescoredQueries<T> queries(int64_t head0, int64_t h, int64_t begin, int64_t end) const {
    RescoredQueries<T> queries{};
    queries.keys = storage_.buckets(h, 0, args_.num_hash());
    queries.codes = args_.query_codes_of(head0 + h);
    queries.fits = hashes_.fits(h);
    queries.mask = args_.query_mask_of(head0 + h);
    queries.shared_column = shared_[h].columns();
    queries.codes_stride = args_.num_query();
    queries.first = begin;
    queries.last = end;
    queries.num_key = args_.num_key();
    queries.columns = shared_[h].rows.size(0);
    queries.hash_code_len = args_.hash_code_len;
    queries.key_rows = key_rows_.rows(h);
    queries.query_rows = query_rows_.rows(h);
    queries.payload_dim = payload_dim_;
    queries.unit_dim = unit_dim_;
    queries.share = shared_[h].share();
    queries.floor = static_cast<T>(args_.floor);
    queries.rest = args_.rest;
    return queries;
  }

  TaskScratch<T> task_scratch() const {
    const int64_t found = std::min(args_.keys_per_query, args_.num_hash() * args_.num_key());
    return TaskScratch<T>(args_.num_hash(), args_.num_key(), found, args_.shared_key_ids.size(2) + 1);
  }

  at::Tensor shared_payload(int64_t h) const { return shared_[h].rows.narrow(1, 0, payload_dim_); }
  at::Tensor shared_unit(int64_t h) const { return shared_[h].rows.narrow(1, payload_dim_, unit_dim_); }

  void forward(int64_t head0, int64_t heads, const at::Tensor& sums) const {
    each_chunk(heads, args_.num_query(), kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
      at::AutoDispatchBelowADInplaceOrView below;
      const TaskScratch<T> memory = task_scratch();
      const at::Tensor columns = product(query_rows_.unit(h, begin, end), shared_unit(h).t());
      const at::Tensor listed = at::empty({end - begin, payload_dim_}, sums.options());
      RescoredQueries<T> queries = this->queries(head0, h, begin, end);
      queries.column_weights = columns.mutable_data_ptr<T>();
      queries.sums = listed.mutable_data_ptr<T>();
      memory.lend_to(queries);
      rescore(queries);
      listed.addmm_(columns, shared_payload(h));
      sums.select(0, head0 + h).narrow(0, begin, end - begin).copy_(listed.narrow(1, 0, sums.size(2)));
    });
  }

  void backward(int64_t head0, int64_t heads, const RescoredResults& results) const {
    const int64_t num_query = args_.num_query(), num_key = args_.num_key();
    const at::TensorOptions options = args_.value.options();
    std::vector<Pairs<T>> pairs;
    for (int64_t h = 0; h < heads; ++h) {
      pairs.emplace_back(num_query, num_key, shared_[h].rows.size(0), hashes_.offsets(h)[num_query], options);
    }
    each_chunk(heads, num_query, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
      at::AutoDispatchBelowADInplaceOrView below;
      const TaskScratch<T> memory = task_scratch();
      at::Tensor weights = pairs[h].column_weights.narrow(0, begin, end - begin);
      at::Tensor slopes = pairs[h].column_slopes.narrow(0, begin, end - begin);
      at::mm_out(weights, query_rows_.unit(h, begin, end), shared_unit(h).t());
      at::mm_out(slopes, query_rows_.payload(h, begin, end), shared_payload(h).t());
      const at::Tensor grad_unit = at::empty({end - begin, unit_dim_}, options);
      RescoredQueries<T> queries = this->queries(head0, h, begin, end);
      queries.column_weights = weights.mutable_data_ptr<T>();
      queries.column_slopes = slopes.mutable_data_ptr<T>();
      queries.grad_unit = grad_unit.mutable_data_ptr<T>();
      queries.offsets = hashes_.offsets(h);
      queries.counts = pairs[h].counts.template mutable_data_ptr<int64_t>();
      queries.pairs = Pairs<T>::data(pairs[h].listed_space);
      memory.lend_to(queries);
      rescore(queries);
      grad_unit.addmm_(slopes, shared_unit(h));
      const at::Tensor to = results.grad_query.select(0, head0 + h).narrow(0, begin, end - begin);
      to.copy_(grad_unit.narrow(1, 0, to.size(1)));
    });
    const int64_t stride = payload_dim_ + unit_dim_;
    const at::Tensor grads = at::empty({heads, num_key, stride}, options);
    each_chunk(heads, 1, 1, [&](int64_t h, int64_t, int64_t) {
      at::AutoDispatchBelowADInplaceOrView below;
      pairs[h].sort_by_key(hashes_.offsets(h), num_query, num_key);
    });
    each_chunk(heads, num_key, kRowsPerTask, [&](int64_t h, int64_t begin, int64_t end) {
      add_pairs(RescoredKeys<T>{.starts = pairs[h].starts.template const_data_ptr<int64_t>(),
                                .pairs = Pairs<T>::data(pairs[h].sorted_space),
                                .query_rows = query_rows_.rows(h),
                                .grads = grads.mutable_data_ptr<T>() + h * num_key * stride,
                                .first = begin,
                                .last = end,
                                .payload_dim = payload_dim_,
                                .unit_dim = unit_dim_});
    });
    each_chunk(heads, 1, 1, [&](int64_t h, int64_t, int64_t) {
      at::AutoDispatchBelowADInplaceOrView below;
      add_columns(head0, h, pairs[h], grads.select(0, h));
      const at::Tensor grad_value = results.grad_value.select(0, head0 + h);
      const at::Tensor grad_key = results.grad_key.select(0, head0 + h);
      grad_value.copy_(grads.select(0, h).narrow(1, 0, grad_value.size(1)));
      grad_key.copy_(grads.select(0, h).narrow(1, payload_dim_, grad_key.size(1)));
    });
  }

  // Adds the gradients of the columns to those of the keys: the shared keys', and the mean value's to every real key.
  void add_columns(int64_t head0, int64_t h, const Pairs<T>& pairs, const at::Tensor& grads) const {
    const int64_t num_query = args_.num_query(), stride = payload_dim_ + unit_dim_;
    const SharedKeys<T>& shared = shared_[h];
    const at::Tensor of_payload = product(pairs.column_weights.t(), query_rows_.payload(h, 0, num_query));
    const at::Tensor of_unit = product(pairs.column_slopes.t(), query_rows_.unit(h, 0, num_query));
    const T *payload = of_payload.const_data_ptr<T>(), *unit = of_unit.const_data_ptr<T>();
    T* to = grads.mutable_data_ptr<T>();
    for (const int32_t id : shared.ids) {
      for (int64_t c = 0; c < payload_dim_; ++c) to[id * stride + c] += *payload++;
      for (int64_t c = 0; c < unit_dim_; ++c) to[id * stride + payload_dim_ + c] += *unit++;
    }
    const bool* mask = args_.key_mask_of(head0 + h);
    const T each = T{1} / static_cast<T>(std::max<int64_t>(shared.num_real, 1));
    for (int64_t j = 0; j < args_.num_key(); ++j) {
      if (mask && !mask[j]) continue;
      for (int64_t c = 0; c < payload_dim_; ++c) to[j * stride + c] += payload[c] * each;
    }
  }

  const RescoredArguments& args_;
  PackedRows<T> key_rows_, query_rows_;
  int64_t payload_dim_, unit_dim_;
  BucketStorage storage_;
  RescoredHashes hashes_;
  std::vector<SharedKeys<T>> shared_;
};

// Returns the codes of heads that have a crowded hash.
template <typename T>
std::vector<CrowdedCodes> visit_heads(const RescoredArguments& args, const RescoredResults& results) {
  const int64_t at_once = heads_at_once(args.heads(), std::max(args.num_query(), args.num_key()));
  RescoredHeads<T> heads(args, at_once);
  std::vector<CrowdedCodes> crowded;
  for (int64_t head0 = 0; head0 < args.heads(); head0 += at_once) {
    heads.visit(head0, std::min(at_once, args.heads() - head0), results, crowded);
  }
  return crowded;
}

std::vector<CrowdedCodes> visit(const RescoredArguments& args, const RescoredResults& results) {
  return args.value.scalar_type() == at::kDouble ? visit_heads<double>(args, results)
                                                 : visit_heads<float>(args, results);
}

// The chosen heads of x [B, H, ...] as [count, 1, ...].
at::Tensor heads_of(const at::Tensor& x, const at::Tensor& heads) {
  return x.flatten(0, 1).index_select(0, heads).unsqueeze(1);
}

Mask heads_of(const Mask& mask, const at::Tensor& heads, int64_t heads_per_sequence) {
  if (!mask) return std::nullopt;
  return mask->index_select(0, heads.floor_divide(heads_per_sequence));
}

RescoredArguments check(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                        const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& shared_key_ids,
                        const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, int64_t keys_per_query,
                        double floor, bool rest) {
  check_hash_code_len(hash_code_len);
  check_attention(query, key, value);
  check_codes(query_codes, key_codes, value);
  check_code_range(query_codes, hash_code_len);
  check_code_range(key_codes, hash_code_len);
  TORCH_CHECK_VALUE(query_codes.size(3) == query.size(2), "query_codes must have query's length ", query.size(2),
                    ", got ", query_codes.size(3));
  check_mask(query_mask, query.size(0), query.size(2), "query_mask");
  check_mask(key_mask, key.size(0), key.size(2), "key_mask");
  TORCH_CHECK_VALUE(keys_per_query >= 0, "keys_per_query must be at least 0, got ", keys_per_query);
  TORCH_CHECK_VALUE(shared_key_ids.scalar_type() == at::kLong && shared_key_ids.dim() == 3 &&
                        shared_key_ids.size(0) == key.size(0) && shared_key_ids.size(1) == key.size(1),
                    "shared_key_ids must be int64 [B, H, count] with value's B and H, got ",
                    shared_key_ids.scalar_type(), " ", shared_key_ids.sizes());
  const at::Tensor ids = shared_key_ids.contiguous();
  const int64_t* id = ids.const_data_ptr<int64_t>();
  const auto [low, high] = std::minmax_element(id, id + ids.numel());
  TORCH_CHECK_VALUE(ids.numel() == 0 || (*low >= 0 && *high < key.size(2)), "shared_key_ids must be 0 to ",
                    key.size(2) - 1, ", the positions of the keys, got ", *low, " to ", *high);
  const at::ScalarType type = accumulate_type(value);
  return {.grad = {},
          .query = as_rows(query, type),
          .key = as_rows(key, type),
          .value = as_rows(value, type),
          .query_codes = query_codes.contiguous(),
          .key_codes = key_codes.contiguous(),
          .shared_key_ids = ids,
          .query_mask = contiguous(query_mask),
          .key_mask = contiguous(key_mask),
          .hash_code_len = hash_code_len,
          .keys_per_query = keys_per_query,
          .floor = floor,
          .rest = rest};
}

// An uninitialised [B * H, N, D] for the rows of x [B, H, N, D'].
at::Tensor result_like(const at::Tensor& x, int64_t dim) {
  return at::empty({x.size(0) * x.size(1), x.size(2), dim}, x.options());
}

}  // namespace

at::Tensor rescored_attention(const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
                              const at::Tensor& query_codes, const at::Tensor& key_codes,
                              const at::Tensor& shared_key_ids, const Mask& query_mask, const Mask& key_mask,
                              int64_t hash_code_len, int64_t keys_per_query, double floor, bool rest,
                              bool /*lsh_backward: used by the backward pass only*/, bool unrounded) {
  const RescoredArguments args = check(query, key, value, query_codes, key_codes, shared_key_ids, query_mask, key_mask,
                                       hash_code_len, keys_per_query, floor, rest);
  RescoredResults results;
  results.sums = result_like(args.query, value.size(3));
  if (const std::vector<CrowdedCodes> codes = visit(args, results); !codes.empty()) {
    const CrowdedHeads crowded(codes);
    const at::Tensor& heads = crowded.heads;
    const at::Tensor collisions =
        lsh_cumulation(crowded.query_codes, crowded.key_codes, heads_of(args.value, heads),
                       heads_of(args.query_mask, heads, query.size(1)), heads_of(args.key_mask, heads, query.size(1)),
                       crowded.hash_code_len, true);
    results.sums.index_add_(0, heads, collisions.squeeze(1));
  }
  const at::Tensor out = results.sums.view({query.size(0), query.size(1), query.size(2), value.size(3)});
  return unrounded ? out : out.to(value.scalar_type());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> rescored_attention_backward(
    const at::Tensor& grad, const at::Tensor& query, const at::Tensor& key, const at::Tensor& value,
    const at::Tensor& query_codes, const at::Tensor& key_codes, const at::Tensor& shared_key_ids,
    const Mask& query_mask, const Mask& key_mask, int64_t hash_code_len, int64_t keys_per_query, double floor,
    bool rest) {
  RescoredArguments args = check(query, key, value, query_codes, key_codes, shared_key_ids, query_mask, key_mask,
                                 hash_code_len, keys_per_query, floor, rest);
  check_grad(grad, query, value);
  args.grad = as_rows(grad, accumulate_type(value));
  RescoredResults results;
  results.grad_query = result_like(args.query, query.size(3));
  results.grad_key = result_like(args.key, key.size(3));
  results.grad_value = result_like(args.value, value.size(3));
  const std::vector<CrowdedCodes> codes = visit(args, results);
  backward_through_scaling(args.query, args.query_mask, results.grad_query);
  backward_through_scaling(args.key, args.key_mask, results.grad_key);
  if (!codes.empty()) {
    const CrowdedHeads crowded(codes);
    const at::Tensor& heads = crowded.heads;
    const auto [of_query, of_key, of_value] = collision_gradients(
        heads_of(args.grad, heads), heads_of(args.query, heads), heads_of(args.key, heads), heads_of(args.value, heads),
        crowded.query_codes, crowded.key_codes, heads_of(args.query_mask, heads, query.size(1)),
        heads_of(args.key_mask, heads, query.size(1)), crowded.hash_code_len, hash_code_len);
    results.grad_query.index_add_(0, heads, of_query.squeeze(1));
    results.grad_key.index_add_(0, heads, of_key.squeeze(1));
    results.grad_value.index_add_(0, heads, of_value.squeeze(1));
  }
  return {results.grad_query.view(query.sizes()).to(query.scalar_type()),
          results.grad_key.view(key.sizes()).to(key.scalar_type()),
          results.grad_value.view(value.sizes()).to(value.scalar_type())};
}

}  // namespace yoso
