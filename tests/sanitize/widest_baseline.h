// Forced into a build (-include) whose dispatcher is to take the baseline kernels on any processor.
#pragma once

#define __builtin_cpu_supports(feature) false
