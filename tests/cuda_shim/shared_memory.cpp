#include "shared_memory.h"

#ifndef __SANITIZE_ADDRESS__
#include <link.h>

#include <cstdint>
#include <cstring>

namespace cuda_shim {
namespace {

thread_local int anchor;  // writing it allocates this thread's copy of the library's thread-local variables

int find_segment(dl_phdr_info* info, size_t, void* static_shared) {
  const uintptr_t here = reinterpret_cast<uintptr_t>(&find_segment) - info->dlpi_addr;
  bool is_this_library = false;
  size_t size = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr) & header = info->dlpi_phdr[i];
    if (header.p_type == PT_LOAD) is_this_library |= header.p_vaddr <= here && here < header.p_vaddr + header.p_memsz;
    if (header.p_type == PT_TLS) size = header.p_memsz;
  }
  if (!is_this_library) return 0;
  static_cast<StaticShared*>(static_shared)->begin = info->dlpi_tls_data;
  static_cast<StaticShared*>(static_shared)->size = size;
  return 1;
}

}  // namespace

StaticShared::StaticShared() {
  *const_cast<volatile int*>(&anchor) = 0;
  dl_iterate_phdr(find_segment, this);
}

void StaticShared::poison() {
  if (begin) memset(begin, kPoison, size);
}

}  // namespace cuda_shim
#endif
