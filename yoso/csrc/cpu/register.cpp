// Registers the CPU operators under the schemas that yoso/ops/schemas.py defines.
#include <torch/library.h>

#include "kernel_interface.h"
#include "ops.h"

TORCH_LIBRARY_IMPL(yoso, CPU, m) {
  m.impl("fast_hash", TORCH_FN(yoso::fast_hash));
  m.impl("lsh_cumulation", TORCH_FN(yoso::lsh_cumulation));
  m.impl("lsh_attention_backward", TORCH_FN(yoso::lsh_attention_backward));
  m.impl("rescored_attention", TORCH_FN(yoso::rescored_attention));
  m.impl("rescored_attention_backward", TORCH_FN(yoso::rescored_attention_backward));
  m.impl("expectation", TORCH_FN(yoso::expectation));
  m.impl("expectation_backward", TORCH_FN(yoso::expectation_backward));
  m.impl("unit_rows", TORCH_FN(yoso::unit_rows));
  m.impl("unit_rows_", TORCH_FN(yoso::unit_rows_));
  m.impl("unit_rows_backward", TORCH_FN(yoso::unit_rows_backward));
  m.impl("floored_unit_rows", TORCH_FN(yoso::floored_unit_rows));
  m.impl("floored_unit_rows_backward", TORCH_FN(yoso::floored_unit_rows_backward));
}

TORCH_LIBRARY_FRAGMENT(yoso, m) {
  m.def("cpu_isa() -> str", [] { return std::string(yoso::kernels().isa); });
}
