// Forced into a build (-include) whose dispatcher is to take AVX2 where the processor has AVX-512 too.
#pragma once

// The fourth letter tells avx512* from avx2 and fma.
#define __builtin_cpu_supports(feature) ((feature)[3] != '5' && __builtin_cpu_supports(feature))
