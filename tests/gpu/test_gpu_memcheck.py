"""The operators under compute-sanitizer, if it is installed: no access outside allocated memory."""

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
"""compute-sanitizer's exit code if it found an error."""


def test_memcheck_finds_no_error(cuda):
    tool = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if tool is None:
        pytest.skip("compute-sanitizer is not on PATH")
    # API errors are not reported: torch causes some when it queries what the device supports. Only accesses count here.
    options = ["--tool", "memcheck", "--kernel-name", "kns=yoso", "--report-api-errors", "no"]
    command = [tool, *options, f"--error-exitcode={FAULTS}"]
    # Without torch's caching allocator every tensor is a separate allocation, so accesses beyond its end are detected.
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
    output = done.stdout + done.stderr
    if "Device not supported" in output:
        pytest.skip("compute-sanitizer does not support this device")
    assert done.returncode == 0, output[-8000:]
    assert "every operator ran" in output
