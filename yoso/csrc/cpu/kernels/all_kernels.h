// Every kernel implementation, and the table of pointers to them. Included only by isa_*.cpp, after the pragma that
// selects the instruction set. Everything in the files below is in an unnamed namespace, so that the linker cannot
// replace a function for one instruction set by the same function for another.
#pragma once

#include "collision_kernels.h"
#include "cumulation_kernels.h"
#include "hash_kernels.h"
#include "large_bucket_kernels.h"
#include "rescored_kernels.h"
#include "small_bucket_kernels.h"
#include "unit_row_kernels.h"

#define YOSO_KERNEL_TABLE(isa)                                                                               \
  Kernels {                                                                                                  \
    hash_hadamard, hash_gaussian, cumulate_slice<float>, cumulate_slice<double>, small_buckets<float>,       \
        small_buckets<double>, large_buckets<float>, large_buckets<double>, rescored_queries<float, false>,  \
        rescored_queries<double, false>, rescored_queries<float, true>, rescored_queries<double, true>,      \
        rescored_keys<float>, rescored_keys<double>, collision<float>, collision<double>, derivative<float>, \
        derivative<double>, unit_rows<float>, unit_rows<double>, unit_rows_backward<float>,                  \
        unit_rows_backward<double>, isa                                                                      \
  }
