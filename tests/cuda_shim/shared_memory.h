// Static shared memory: what __shared__ stands for, and how it is made to look uninitialised.
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
// Thread-local, since the linker then lays them side by side, where they can be found and filled. So nothing else in
// this library may be thread-local; shim.py looks.
#define __shared__ static thread_local
struct StaticShared {
  StaticShared();  // of the calling system thread
  void poison();

  void* begin = nullptr;
  size_t size = 0;
};
#endif

}  // namespace cuda_shim
