// Included into a build with -include, so that the dispatcher chooses the baseline kernels on every processor.
#pragma once

#define __builtin_cpu_supports(feature) false
