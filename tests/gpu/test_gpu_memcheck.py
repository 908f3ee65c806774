"""The operators under compute-sanitizer: no access outside what was allocated, where the tool is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
SECONDS = 150
FAULTS = 77
"""compute-sanitizer's exit code where it found something."""


def test_memcheck_finds_nothing(cuda):
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        pytest.skip("compute-sanitizer is not on PATH")
    # Errors of the driver's calls are torch's own soundings, of what the device has; only accesses count here.
    asked = ["--tool", "memcheck", "--kernel-name", "kns=yoso", "--report-api-errors", "no"]
    command = [tool, *asked, f"--error-exitcode={FAULTS}"]
    # Without torch's pool every tensor is an allocation of its own, so that its end is the end of what may be touched.
    environment = os.environ | {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    done = subprocess.run(
        [*command, sys.executable, str(HERE / "every_operator.py")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    said = done.stdout + done.stderr
    if "Device not supported" in said:
        pytest.skip("compute-sanitizer does not support this device")
    assert done.returncode == 0, said[-8000:]
    assert "every operator ran" in said
