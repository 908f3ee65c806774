// Dispatches on the element type. The kernels of each type are in a separate file, so that they compile in parallel.
#include <type_traits>

#include "expectation.h"

namespace yoso::cuda {

template <typename T>
cudaError_t launch_expectation_of(const ExpectationParams& params, cudaStream_t stream);

cudaError_t launch_expectation(const ExpectationParams& params, cudaStream_t stream) {
  return with_dtype(params.dtype, [&](auto* element) {
    return launch_expectation_of<std::remove_pointer_t<decltype(element)>>(params, stream);
  });
}

}  // namespace yoso::cuda
