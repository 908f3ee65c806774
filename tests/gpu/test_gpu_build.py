"""The CUDA kernels are built, loaded and the ones that a call on a GPU reaches."""

import pytest
import torch

import yoso.attention  # noqa: F401  registers the operators
from yoso.build import jit
from yoso.ops.schemas import SCHEMAS


@pytest.mark.parametrize("name", sorted(set(SCHEMAS) - {"lsh_attention"}))
def test_every_operator_has_its_own_kernel(cuda, name):
    assert torch._C._dispatch_has_kernel_for_dispatch_key(f"yoso::{name}", cuda.upper())


def test_a_record_names_the_kernels(cuda):
    assert "native" in jit.describe(cuda)
