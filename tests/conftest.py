import os

import pytest


@pytest.fixture(scope="session")
def _shim_library():
    # Imported here: the tests that need no shim need not wait for it.
    from cuda_shim.shim import Shim, library

    return Shim(library(sanitized="YOSO_SHIM_SANITIZED" in os.environ))


@pytest.fixture(params=[0, 1, 2], ids=["ascending", "descending", "random"])
def shim(_shim_library, request):
    """The CUDA kernels on the CPU, once an order of threads: what a missing barrier would change."""
    _shim_library.set_order(request.param)
    yield _shim_library
    _shim_library.set_device()
