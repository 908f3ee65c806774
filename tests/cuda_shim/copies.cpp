#include "copies.h"

#include <cstring>
#include <deque>
#include <vector>

#include "block.h"
#include "types.h"

namespace cuda_shim {
namespace {

struct Copy {
  void* to;
  const void* from;
  bool real;
};

// The delayed copies of one thread.
struct ThreadCopies {
  std::deque<std::vector<Copy>> groups;
  std::vector<Copy> uncommitted;
};

std::vector<ThreadCopies> copies_of_threads;  // by rank

void carry_out(const Copy& copy) {
  if (copy.real) {
    memcpy(copy.to, copy.from, 16);
  } else {
    memset(copy.to, 0, 16);
  }
}

ThreadCopies& own() {
  const unsigned rank = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  if (copies_of_threads.size() <= rank) copies_of_threads.resize(rank + 1);
  return copies_of_threads[rank];
}

}  // namespace

void start_copy(void* to, const void* from, bool real) {
  const Copy copy{to, from, real};
  if (order() % 2) {
    own().uncommitted.push_back(copy);
  } else {
    carry_out(copy);
  }
}

void commit_copy_group() {
  own().groups.push_back(std::move(own().uncommitted));
  own().uncommitted.clear();
}

void wait_for_all_copies() {
  wait_for_copy_groups(0);
  for (const Copy& copy : own().uncommitted) carry_out(copy);
  own().uncommitted.clear();
}

void wait_for_copy_groups(unsigned pending) {
  for (auto& groups = own().groups; groups.size() > pending; groups.pop_front()) {
    for (const Copy& copy : groups.front()) carry_out(copy);
  }
}

void discard_copies() { copies_of_threads.clear(); }

}  // namespace cuda_shim
