// Static shared memory: the definition of __shared__, and poisoning, which makes reads of unwritten memory visible.
#pragma once

#include <cstddef>

namespace cuda_shim {

// All bits set: NaN in every floating type, -1 as an index.
constexpr int kPoison = 0xff;

#ifdef __SANITIZE_ADDRESS__
// Plain static variables: AddressSanitizer puts red zones around them.
#define __shared__ static
struct StaticShared {
  void poison() {}
};
#else
// Thread-local, because the linker places all thread-local variables in one segment, which can be found and filled. So
// nothing else in this library may be thread-local; shim.py checks that.
#define __shared__ static thread_local
struct StaticShared {
  StaticShared();  // finds the variables of the calling system thread
  void poison();

  void* begin = nullptr;
  size_t size = 0;
};
#endif

}  // namespace cuda_shim
