// The kernels compiled for x86-64 with AVX-512.
#if defined(__x86_64__)
#include <stdint.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif
#include "kernels/all_kernels.h"

namespace yoso {
extern const Kernels kAvx512Kernels = YOSO_KERNEL_TABLE("avx512");
}  // namespace yoso
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
