// Included into a build with -include, so that the dispatcher chooses AVX2 although the processor also has AVX-512.
#pragma once

// The fourth character distinguishes avx512* from avx2 and fma.
#define __builtin_cpu_supports(feature) ((feature)[3] != '5' && __builtin_cpu_supports(feature))
