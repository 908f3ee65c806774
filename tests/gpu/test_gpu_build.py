"""The CUDA kernels are built and loaded, and calls on a GPU are dispatched to them."""

import pytest
import torch

import yoso.attention  # noqa: F401  registers the operators
from yoso.build import jit
from yoso.ops.schemas import SCHEMAS


@pytest.mark.parametrize("name", sorted(set(SCHEMAS) - {"lsh_attention"}))
def test_every_operator_has_a_cuda_kernel(cuda, name):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"yoso::{name}", cuda.upper())


def test_the_description_names_native_kernels(cuda):
    assert "native" in jit.describe(cuda)
