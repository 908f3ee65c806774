// Replaces torch's header of this name in the build with the thread sanitizer: at::parallel_for on std::thread, whose
// start and join the sanitizer understands. It does not see how OpenMP's runtime synchronises, and would report every
// task as a data race.
#pragma once

#define parallel_for parallel_for_openmp
#include_next <ATen/Parallel.h>
#undef parallel_for

#include <algorithm>
#include <thread>
#include <vector>

namespace at {

template <class F>
void parallel_for(const int64_t begin, const int64_t end, const int64_t grain_size, const F& f) {
  constexpr int64_t kThreads = 8;
  const int64_t chunk = std::max({int64_t{1}, grain_size, divup(end - begin, kThreads)});
  std::vector<std::thread> threads;
  for (int64_t first = begin; first < end; first += chunk) {
    threads.emplace_back([&f, first, last = std::min(first + chunk, end)] { f(first, last); });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace at
