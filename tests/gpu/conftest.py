"""Fixtures of the tests that need a GPU; without one they are collected and skipped.

Tests that use the fixture ``device`` run on the CPU too, which tests the tests.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from yoso.build import jit

# cuBLAS is deterministic only with a workspace of fixed size, which must be set before its first call.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
sys.path.insert(0, str(Path(__file__).parent.parent))  # for helper modules of the other tests


def _need(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if not jit.load(device):
        pytest.fail(f"YOSO's {device} kernels could not be built: run `harness doctor`")


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """The CPU and the GPU, with native kernels."""
    _need(request.param)
    return str(request.param)


@pytest.fixture
def cuda() -> str:
    """The GPU only."""
    _need("cuda")
    return "cuda"


@pytest.fixture(autouse=True)
def _synchronize_after_each_test() -> Iterator[None]:
    """Let an asynchronous CUDA error fail the test that caused it."""
    yield
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
