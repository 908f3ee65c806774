// Tokens of several heads grouped into buckets by their codes, the list of large buckets, and how many heads and hashes
// are processed together.
#pragma once

#include <algorithm>

#include "rows.h"

namespace yoso {

// The number of heads whose scratch memory exists at once: enough tokens that every core has work between two barriers,
// and no more, so that scratch memory does not grow with the number of heads. It depends only on shapes, like
// everything that determines the order of a sum.
inline int64_t heads_at_once(int64_t heads, int64_t length) {
  return std::clamp<int64_t>(8192 / std::max<int64_t>(length, 1), 1, std::max<int64_t>(heads, 1));
}

// The number of hashes processed together, 4 to 16 if there are that many: so many that the buckets of one head take
// 512 KiB, which fits in the core's L2 cache.
inline int64_t hashes_sorted_at_once(int64_t num_hash, int64_t length, int64_t table_rows) {
  const int64_t bytes = (length + table_rows) * static_cast<int64_t>(sizeof(int32_t));
  return std::clamp<int64_t>(512 * 1024 / bytes, 4, std::min<int64_t>(num_hash, kMaxHashesAtOnce));
}

// Memory for the buckets of several heads and hashes, and the counting sort that fills it.
class BucketStorage {
 public:
  BucketStorage(int64_t heads, int64_t hashes, int64_t table_rows, int64_t length)
      : hashes_(hashes),
        table_rows_(table_rows),
        stride_(length + 4),
        length_(length),
        starts_(scratch<int32_t>(heads * hashes * (table_rows + 2))),
        ids_(scratch<int32_t>(heads * hashes * stride_)) {}

  int32_t* starts(int64_t head, int64_t hash) const {
    return starts_.mutable_data_ptr<int32_t>() + (head * hashes_ + hash) * (table_rows_ + 2);
  }
  int32_t* ids(int64_t head, int64_t hash) const {
    return ids_.mutable_data_ptr<int32_t>() + (head * hashes_ + hash) * stride_;
  }

  // The buckets of one head for `hashes` hashes from `first` on.
  Buckets buckets(int64_t head, int64_t first, int64_t hashes) const {
    return {starts(head, first), ids(head, first), table_rows_, stride_, hashes};
  }

  // Sorts the tokens of one head and hash by code. Tokens whose mask is false are in no bucket.
  void sort(int64_t head, int64_t hash, const uint16_t* codes, const bool* mask) const {
    int32_t *start = starts(head, hash), *id = ids(head, hash);
    // The histogram is shifted by two places. After the prefix sum, bucket c starts at start[c + 1]; filling the bucket
    // advances that to its end, which is the start of bucket c + 1, so that bucket c then starts at start[c].
    std::fill_n(start, table_rows_ + 2, 0);
    for (int64_t i = 0; i < length_; ++i) start[codes[i] + 2] += !mask || mask[i];
    for (int64_t c = 2; c <= table_rows_; ++c) start[c] += start[c - 1];
    for (int64_t i = 0; i < length_; ++i) {
      if (!mask || mask[i]) id[start[codes[i] + 1]++] = static_cast<int32_t>(i);
    }
    std::fill_n(id + start[table_rows_], 4, 0);  // the four ids that may be read after the last bucket
  }

 private:
  int64_t hashes_, table_rows_, stride_, length_;
  at::Tensor starts_, ids_;
};

// The codes of large buckets, which the sampled gradient processes as a whole.
class LargeBucketList {
 public:
  // No hash has more than max_codes large buckets.
  LargeBucketList(int64_t heads, int64_t hashes, int64_t max_codes)
      : hashes_(hashes),
        stride_(max_codes),
        codes_(scratch<uint16_t>(heads * hashes * max_codes)),
        counts_(scratch<int64_t>(heads * hashes)) {}

  const uint16_t* codes(int64_t head, int64_t hash) const {
    return codes_.const_data_ptr<uint16_t>() + (head * hashes_ + hash) * stride_;
  }
  int64_t count(int64_t head, int64_t hash) const { return counts_.const_data_ptr<int64_t>()[head * hashes_ + hash]; }

  // The largest count of any head and any of the hashes [first, last).
  int64_t max_count(int64_t heads, int64_t first, int64_t last) const {
    int64_t largest = 0;
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t hash = first; hash < last; ++hash) largest = std::max(largest, count(head, hash));
    }
    return largest;
  }

  // Lists the large buckets of one head and hash, and complements the first id of each among queries and keys.
  void mark(int64_t head, int64_t hash, const BucketStorage& queries, const BucketStorage& keys, int64_t table_rows) {
    const int32_t *query_starts = queries.starts(head, hash), *key_starts = keys.starts(head, hash);
    int32_t *query_ids = queries.ids(head, hash), *key_ids = keys.ids(head, hash);
    uint16_t* codes = codes_.mutable_data_ptr<uint16_t>() + (head * hashes_ + hash) * stride_;
    int64_t count = 0;
    for (int64_t c = 0; c < table_rows; ++c) {
      if (!is_large(query_starts[c + 1] - query_starts[c], key_starts[c + 1] - key_starts[c])) continue;
      query_ids[query_starts[c]] = ~query_ids[query_starts[c]];
      key_ids[key_starts[c]] = ~key_ids[key_starts[c]];
      codes[count++] = static_cast<uint16_t>(c);
    }
    counts_.mutable_data_ptr<int64_t>()[head * hashes_ + hash] = count;
  }

 private:
  // A bucket is large if its pairs are more than three times its queries and keys, so that processing the bucket as a
  // whole reads fewer rows, or if a single target would have to read more than kMaxSmallBucketRows rows.
  static bool is_large(int64_t queries, int64_t keys) {
    return queries * keys > 3 * (queries + keys) ||
           (std::max(queries, keys) > kMaxSmallBucketRows && std::min(queries, keys) > 0);
  }

  int64_t hashes_, stride_;
  at::Tensor codes_, counts_;
};

}  // namespace yoso
