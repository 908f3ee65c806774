#include "block.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "copies.h"
#include "fiber.h"
#include "shared_memory.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace cuda_shim {
namespace {

constexpr unsigned kWarp = 32, kMaxThreads = 1024;

enum class State { kReady, kAtBlockBarrier, kAtWarp, kDone };

struct Thread {
  Fiber fiber;
  uint3 index;
  State state;
  Where where;
};

struct Warp {
  // Two sets, because a lane may be in the next exchange while another has not read this one's values yet.
  uint64_t values[2][kWarp];
  unsigned turn = 0, arrived = 0;
  Where where;
};

struct Block {
  std::vector<std::unique_ptr<Thread>> threads;  // reused by the next launch, for their stacks
  std::vector<Warp> warps;
  unsigned size = 0;
  const std::function<void()>* body = nullptr;
  Thread* running = nullptr;
  unsigned running_rank = 0;
  int predicates = 0, predicates_of_last_barrier = 0;
  std::string error;
  std::unique_ptr<unsigned char, decltype(&free)> shared{nullptr, &free};
  uint64_t order = 0;
  std::mt19937_64 random;
};

// One launch runs at a time, on one system thread, so atomics need not be atomic and shared memory can be static.
std::mutex one_launch;
Block block;

std::vector<unsigned> in_order(unsigned count) {
  std::vector<unsigned> ranks(count);
  std::iota(ranks.begin(), ranks.end(), 0u);
  if (block.order == 1) std::reverse(ranks.begin(), ranks.end());
  if (block.order > 1) std::shuffle(ranks.begin(), ranks.end(), block.random);
  return ranks;
}

std::string describe(const Where& where) {
  const char* slash = strrchr(where.file_name(), '/');
  return std::string(slash ? slash + 1 : where.file_name()) + ":" + std::to_string(where.line());
}

bool same(const Where& a, const Where& b) { return a.line() == b.line() && !strcmp(a.file_name(), b.file_name()); }

std::string describe(const Thread& thread) {
  std::ostringstream text;
  text << "thread (" << thread.index.x << ", " << thread.index.y << ", " << thread.index.z << ") ";
  switch (thread.state) {
    case State::kReady:
      return text.str() + "is running";
    case State::kAtBlockBarrier:
      return text.str() + "waits for the block at " + describe(thread.where);
    case State::kAtWarp:
      return text.str() + "waits for its warp at " + describe(thread.where);
    case State::kDone:
      return text.str() + "has ended";
  }
  return text.str();
}

[[noreturn]] void raise(const std::string& message) {
  std::ostringstream text;
  text << "cuda_shim: block (" << blockIdx.x << ", " << blockIdx.y << ", " << blockIdx.z << "): " << message;
  throw std::runtime_error(text.str());
}

void wait(State state, const Where& where) {
  block.running->state = state;
  block.running->where = where;
  block.running->fiber.pause();
}

void resume(unsigned rank) {
  block.running = block.threads[rank].get();
  block.running_rank = rank;
  threadIdx = block.running->index;
  block.running->fiber.resume();
  if (!block.error.empty()) raise(block.error);
}

// Runs the lanes of a warp until all wait. Returns whether any ran.
bool run_to_wait(unsigned warp) {
  const unsigned first = warp * kWarp, lanes = std::min(kWarp, block.size - first);
  bool ran = false;
  for (unsigned lane : in_order(lanes)) {
    if (block.threads[first + lane]->state != State::kReady) continue;
    resume(first + lane);
    ran = true;
  }
  return ran;
}

// Runs every thread until it waits for its block: warp by warp, or with the warps taking turns.
void run_to_barrier() {
  const auto warps = in_order(block.warps.size());
  if (block.order > 1 && block.order % 2) {
    for (bool ran = true; ran;) {
      ran = false;
      for (unsigned warp : warps) ran |= run_to_wait(warp);
    }
  } else {
    for (unsigned warp : warps) {
      while (run_to_wait(warp)) {
      }
    }
  }
}

// Releases the threads from the barrier at which all of them wait. Returns whether the block has ended.
bool pass_barrier() {
  const Thread& first = *block.threads[0];
  for (unsigned rank = 0; rank < block.size; ++rank) {
    const Thread& thread = *block.threads[rank];
    const bool same_place =
        thread.state == first.state && (first.state == State::kDone || same(thread.where, first.where));
    if (thread.state == State::kAtWarp || !same_place) {
      // If a thread waits for its warp, the other thread to name is a lane that is missing.
      const unsigned warp = rank / kWarp * kWarp;
      unsigned other = 0;
      if (thread.state == State::kAtWarp) {
        for (other = warp; other + 1 < block.size && block.threads[other]->state == State::kAtWarp;) ++other;
      }
      raise("threads do not reach the same barrier: " + describe(thread) + ", " + describe(*block.threads[other]));
    }
  }
  if (first.state == State::kDone) return true;
  for (unsigned rank = 0; rank < block.size; ++rank) block.threads[rank]->state = State::kReady;
  block.predicates_of_last_barrier = block.predicates;
  block.predicates = 0;
  return false;
}

void begin_thread() {
  (*block.body)();
  block.running->state = State::kDone;
}

void run_block(StaticShared& static_shared, size_t shared_bytes) {
  static_shared.poison();
  if (shared_bytes) memset(block.shared.get(), kPoison, shared_bytes);
  block.warps.assign((block.size + kWarp - 1) / kWarp, Warp{});
  block.predicates = 0;
  discard_copies();
  for (unsigned rank = 0; rank < block.size; ++rank) {
    Thread& thread = *block.threads[rank];
    thread.index = {rank % blockDim.x, rank / blockDim.x % blockDim.y, rank / blockDim.x / blockDim.y};
    thread.state = State::kReady;
    thread.fiber.start(begin_thread);
  }
  do run_to_barrier();
  while (!pass_barrier());
}

}  // namespace

void set_order(uint64_t order) {
  const std::lock_guard<std::mutex> guard(one_launch);
  block.order = order;
  block.random.seed(order);
}

uint64_t order() { return block.order; }

DeviceLimits& device_limits() {
  static DeviceLimits limits;
  return limits;
}

Launch run(dim3 grid, dim3 threads, size_t shared_bytes, const std::function<void()>& body) {
  const std::lock_guard<std::mutex> guard(one_launch);
  const uint64_t size = uint64_t{threads.x} * threads.y * threads.z;
  if (size == 0 || size > kMaxThreads || threads.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535 ||
      shared_bytes > static_cast<size_t>(device_limits().shared_bytes)) {
    return Launch::kBadConfiguration;
  }
  block.size = size;
  block.body = &body;
  block.error.clear();
  while (block.threads.size() < size) block.threads.push_back(std::make_unique<Thread>());
  // Exactly as many bytes as requested, so that AddressSanitizer reports the first byte beyond.
  void* shared = nullptr;
  if (shared_bytes && posix_memalign(&shared, 16, shared_bytes)) throw std::bad_alloc();
  block.shared.reset(static_cast<unsigned char*>(shared));
  StaticShared static_shared;
  gridDim = grid;
  blockDim = threads;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  const uint64_t offset = block.order > 1 ? block.random() % blocks : 0;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t at = block.order == 1 ? blocks - 1 - i : (i + offset) % blocks;
    blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                static_cast<unsigned>(at / grid.x / grid.y)};
    run_block(static_shared, shared_bytes);
  }
  return Launch::kDone;
}

void* dynamic_shared() { return block.shared.get(); }

unsigned lane() { return block.running_rank % kWarp; }

int block_barrier(bool predicate, Where where) {
  block.predicates += predicate;
  wait(State::kAtBlockBarrier, where);
  return block.predicates_of_last_barrier;
}

const uint64_t* warp_exchange(unsigned mask, uint64_t value, Where where) {
  if (mask != 0xffffffffu) fail("a warp-wide operation must have the mask of the whole warp", where);
  if (block.size % kWarp) fail("a warp-wide operation needs a block of whole warps", where);
  const unsigned first = block.running_rank - lane();
  Warp& warp = block.warps[first / kWarp];
  if (warp.arrived == 0) warp.where = where;
  if (!same(warp.where, where)) fail("other lanes of the warp are at " + describe(warp.where), where);
  uint64_t* values = warp.values[warp.turn];
  values[lane()] = value;
  if (++warp.arrived < kWarp) {
    wait(State::kAtWarp, where);
  } else {
    warp.arrived = 0;
    warp.turn ^= 1;
    for (unsigned i = 0; i < kWarp; ++i) block.threads[first + i]->state = State::kReady;
  }
  return values;
}

void fail(const std::string& message, Where where) {
  block.error = describe(*block.running) + " at " + describe(where) + ": " + message;
  block.running->fiber.pause();
  abort();  // not reached: the launch has ended and this thread is not resumed
}

}  // namespace cuda_shim
