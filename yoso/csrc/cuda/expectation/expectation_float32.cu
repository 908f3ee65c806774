#include "expectation_kernel.cuh"

template cudaError_t yoso::cuda::launch_expectation_of<float>(const ExpectationParams&, cudaStream_t);
