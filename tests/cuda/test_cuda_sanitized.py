"""The CUDA kernels on the shim under the address and undefined-behaviour sanitizers: the random order of threads.

``make sanitize`` runs every order.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_no_kernel_reads_or_writes_where_it_should_not():
    command = [sys.executable, str(ROOT / "tests/sanitize/cuda_shim.py"), "-k", "random"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
