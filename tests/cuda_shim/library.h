// Included before everything else in files that include torch: operators that register CUDA kernels in the namespace
// yoso register CPU kernels in the namespace yoso_cuda_shim instead, so that they do not conflict with the CPU kernels
// of yoso.
#pragma once

#include <torch/library.h>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(ns, key, m) _TORCH_LIBRARY_IMPL(ns##_cuda_shim, CPU, m, C10_UID)
