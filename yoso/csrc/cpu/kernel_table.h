// Every kernel in one table, for the instruction set of the including file.
#pragma once

#include "bucket_kernels.h"
#include "collision_kernels.h"
#include "cumulation_kernels.h"
#include "hash_kernels.h"
#include "pair_kernels.h"
#include "row_kernels.h"

#define YOSO_KERNEL_TABLE(isa)                                                                                        \
  Kernels {                                                                                                           \
    hash_hadamard, hash_gaussian, cumulate_slice<float>, cumulate_slice<double>, pair_rows<float>, pair_rows<double>, \
        pair_buckets<float>, pair_buckets<double>, collision<float>, collision<double>, derivative<float>,            \
        derivative<double>, unit_rows<float>, unit_rows<double>, unit_rows_backward<float>,                           \
        unit_rows_backward<double>, isa                                                                               \
  }
