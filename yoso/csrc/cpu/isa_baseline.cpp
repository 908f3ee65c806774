// The kernels compiled for the default target of the build, which runs on any processor of the architecture.
#include "kernels/all_kernels.h"

namespace yoso {
extern const Kernels kBaselineKernels = YOSO_KERNEL_TABLE("baseline");
}  // namespace yoso
