// Forced before every file that includes torch: kernels that register for CUDA under yoso register for the CPU under
// yoso_cuda_shim instead, beside the CPU's own.
#pragma once

#include <torch/library.h>

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(ns, key, m) _TORCH_LIBRARY_IMPL(ns##_cuda_shim, CPU, m, C10_UID)
