"""The CUDA kernels on the shim under the address and undefined-behaviour sanitizers, in a random order of threads.

``make sanitize`` runs all orders.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_kernel_accesses_invalid_memory():
    command = [sys.executable, str(ROOT / "tests/sanitize/cuda_shim.py"), "-k", "random"]
    environment = os.environ | {"YOSO_SHIM_ORDERS": "2"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
