// The kernels for any processor of the build's target.
#include "kernel_table.h"

namespace yoso {
extern const Kernels kBaselineKernels = YOSO_KERNEL_TABLE("baseline");
}  // namespace yoso
