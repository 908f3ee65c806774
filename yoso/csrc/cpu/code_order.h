// Tokens sorted by code: a counting sort a (head, hash), and how many heads and hashes are worked on at a time.
#pragma once

#include <algorithm>

#include "rows.h"

namespace yoso {

// Heads whose scratch exists at once: enough tokens for every core to have work between two barriers, and no more, so
// that scratch does not grow with the number of heads. It depends on shapes alone, as all that decides an order of
// sums.
inline int64_t heads_at_once(int64_t heads, int64_t length) {
  return std::clamp<int64_t>(8192 / std::max<int64_t>(length, 1), 1, std::max<int64_t>(heads, 1));
}

// Hashes whose sorted tokens of one head stay in the core's own cache together.
inline int64_t sorted_at_once(int64_t num_hash, int64_t length, int64_t table_rows) {
  const int64_t bytes = (length + table_rows) * static_cast<int64_t>(sizeof(int32_t));
  return std::clamp<int64_t>(512 * 1024 / bytes, 4, std::min<int64_t>(num_hash, kMostHashes));
}

// Tokens of several heads ordered by several hashes' codes.
class CodeOrders {
 public:
  CodeOrders(int64_t heads, int64_t hashes, int64_t table_rows, int64_t length)
      : hashes_(hashes),
        rows_(table_rows),
        stride_(length + 4),
        length_(length),
        starts_(scratch<int32_t>(heads * hashes * (table_rows + 2))),
        ids_(scratch<int32_t>(heads * hashes * stride_)) {}

  int32_t* starts(int64_t head, int64_t hash) const {
    return starts_.mutable_data_ptr<int32_t>() + (head * hashes_ + hash) * (rows_ + 2);
  }
  int32_t* ids(int64_t head, int64_t hash) const {
    return ids_.mutable_data_ptr<int32_t>() + (head * hashes_ + hash) * stride_;
  }

  // The first `hashes` hashes of a head, from hash `first` on.
  CodeOrder order(int64_t head, int64_t first, int64_t hashes) const {
    return {starts(head, first), ids(head, first), rows_, stride_, hashes};
  }

  void sort(int64_t head, int64_t hash, const uint16_t* codes, const bool* real) const {
    int32_t *start = starts(head, hash), *id = ids(head, hash);
    // Counts go two places up, so that filling a bucket leaves its start where its reader looks.
    std::fill_n(start, rows_ + 2, 0);
    for (int64_t i = 0; i < length_; ++i) start[codes[i] + 2] += !real || real[i];
    for (int64_t c = 2; c <= rows_; ++c) start[c] += start[c - 1];
    for (int64_t i = 0; i < length_; ++i) {
      if (!real || real[i]) id[start[codes[i] + 1]++] = static_cast<int32_t>(i);
    }
    std::fill_n(id + start[rows_], 4, 0);  // what a reader of the last bucket may find behind it
  }

 private:
  int64_t hashes_, rows_, stride_, length_;
  at::Tensor starts_, ids_;
};

}  // namespace yoso
