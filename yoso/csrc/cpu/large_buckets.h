// The buckets that the sampled gradient visits as a whole, and their marks in both sides' orders.
#pragma once

#include "code_order.h"

namespace yoso {

class LargeBuckets {
 public:
  // `most_codes`: no hash has more large buckets than that.
  LargeBuckets(int64_t heads, int64_t hashes, int64_t most_codes)
      : hashes_(hashes),
        stride_(most_codes),
        codes_(scratch<uint16_t>(heads * hashes * most_codes)),
        counts_(scratch<int64_t>(heads * hashes)) {}

  const uint16_t* codes(int64_t head, int64_t hash) const {
    return codes_.const_data_ptr<uint16_t>() + (head * hashes_ + hash) * stride_;
  }
  int64_t count(int64_t head, int64_t hash) const { return counts_.const_data_ptr<int64_t>()[head * hashes_ + hash]; }

  // The most that one of the heads has under one of the hashes.
  int64_t most(int64_t heads, int64_t first, int64_t last) const {
    int64_t most = 0;
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t hash = first; hash < last; ++hash) most = std::max(most, count(head, hash));
    }
    return most;
  }

  // Finds those of one hash and inverts the first id of each on both sides.
  void mark(int64_t head, int64_t hash, const CodeOrders& queries, const CodeOrders& keys, int64_t table_rows) {
    const int32_t *query_starts = queries.starts(head, hash), *key_starts = keys.starts(head, hash);
    int32_t *query_ids = queries.ids(head, hash), *key_ids = keys.ids(head, hash);
    uint16_t* to = codes_.mutable_data_ptr<uint16_t>() + (head * hashes_ + hash) * stride_;
    int64_t count = 0;
    for (int64_t c = 0; c < table_rows; ++c) {
      if (!is_large(query_starts[c + 1] - query_starts[c], key_starts[c + 1] - key_starts[c])) continue;
      query_ids[query_starts[c]] = ~query_ids[query_starts[c]];
      key_ids[key_starts[c]] = ~key_ids[key_starts[c]];
      to[count++] = static_cast<uint16_t>(c);
    }
    counts_.mutable_data_ptr<int64_t>()[head * hashes_ + hash] = count;
  }

 private:
  // Where its members are fewer rows than its pairs walk, or where one member would walk too many.
  static bool is_large(int64_t queries, int64_t keys) {
    return queries * keys > 3 * (queries + keys) || (std::max(queries, keys) > kFewRows && std::min(queries, keys) > 0);
  }

  int64_t hashes_, stride_;
  at::Tensor codes_, counts_;
};

}  // namespace yoso
