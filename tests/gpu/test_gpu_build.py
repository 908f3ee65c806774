"""The CUDA kernels are built and loaded, and calls on a GPU are dispatched to them."""

import pytest
import torch

import yoso.attention  # noqa: F401  registers the operators
from yoso.build import jit
from yoso.ops.schemas import SCHEMAS

IN_PLAIN_TORCH = {"lsh_attention", "rescored_attention", "rescored_attention_backward"}
"""lsh_attention calls other operators; the rescored estimator has no CUDA kernel."""


@pytest.mark.parametrize("name", sorted(set(SCHEMAS) - IN_PLAIN_TORCH))
def test_every_operator_has_a_cuda_kernel(cuda, name):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"yoso::{name}", cuda.upper())


def test_the_description_names_native_kernels(cuda):
    assert "native" in jit.describe(cuda)
