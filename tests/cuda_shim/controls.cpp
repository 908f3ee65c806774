// Settings for tests: the order of threads, and the device's limits.
#include <torch/library.h>

#include "block.h"

TORCH_LIBRARY_FRAGMENT(yoso_cuda_shim, m) {
  m.def("set_order(int order) -> ()", [](int64_t order) { cuda_shim::set_order(static_cast<uint64_t>(order)); });
  m.def("set_device(int multiprocessors, int shared_bytes) -> ()", [](int64_t multiprocessors, int64_t shared_bytes) {
    cuda_shim::device_limits().multiprocessors = static_cast<int>(multiprocessors);
    cuda_shim::device_limits().shared_bytes = static_cast<int>(shared_bytes);
  });
}
