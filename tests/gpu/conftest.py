"""Fixtures of the tests that a GPU must pass. Without one they are collected and skipped.

Those that take ``device`` run on the CPU too, which proves the tests themselves.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from yoso.build import jit

# cuBLAS is deterministic with a workspace of fixed size; it must be set before the first call.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
sys.path.insert(0, str(Path(__file__).parent.parent))  # the helpers of the other tests


def _need(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    if not jit.load(device):
        pytest.fail(f"YOSO's {device} kernels could not be built: run `harness doctor`")


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest) -> str:
    """Each device in turn, with its native kernels."""
    _need(request.param)
    return str(request.param)


@pytest.fixture
def cuda() -> str:
    """The GPU alone."""
    _need("cuda")
    return "cuda"


@pytest.fixture(autouse=True)
def _faults_show_in_their_own_test() -> Iterator[None]:
    yield
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
