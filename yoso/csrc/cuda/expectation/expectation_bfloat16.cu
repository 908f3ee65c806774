#include "expectation_kernel.cuh"

template cudaError_t yoso::cuda::launch_expectation_of<__nv_bfloat16>(const ExpectationParams&, cudaStream_t);
