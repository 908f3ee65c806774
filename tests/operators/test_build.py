"""The native build: where it fails, one warning says why and plain torch runs; later starts only load the library."""

import os
import subprocess
import sys
import time

import pytest

CALL = """
import warnings, torch
import yoso.attention as attention
query = torch.randn(1, 2, 30, 16)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    torch.manual_seed(0)
    out = attention.yoso_sampling(query, query, query, num_hash=8)
    attention.yoso_e(query, query, query)
print(len(caught), *[str(warning.message) for warning in caught], sep="\\n")
print(out.isfinite().all().item())
"""
IMPORT = """
import time, torch, transformers
start = time.perf_counter()
import yoso, harness
print(time.perf_counter() - start)
"""
WARM = """
import time, torch
from yoso import build
import yoso.ops
start = time.perf_counter()
assert build.load("cpu")
print(time.perf_counter() - start)
"""


def run(code, **environment):
    """The lines that the code prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout.split("\n")


def test_without_a_compiler_plain_torch_runs_and_one_warning_says_why(tmp_path):
    count, message, *rest = run(CALL, CXX="no-such-compiler", YOSO_CACHE=str(tmp_path))
    assert count == "1"
    assert "plain-torch" in message
    assert "'no-such-compiler' is not on PATH" in message
    assert "g++" in message, "the message must say what to install"
    assert rest[0] == "True"


def test_with_a_broken_compiler_plain_torch_runs_and_one_warning_names_the_compiler(tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'fatal: this compiler is broken' >&2\nexit 1\n")
    broken.chmod(0o755)
    count, *rest = run(CALL, CXX=str(broken), YOSO_CACHE=str(tmp_path / "cache"))
    assert count == "1"
    assert "plain-torch" in rest[0]
    assert "compiler" in "\n".join(rest)
    assert "True" in rest


@pytest.mark.alone
def test_importing_yoso_and_harness_takes_little_time_after_torch_and_transformers():
    assert min(float(run(IMPORT)[0]) for _ in range(3)) < 0.3


@pytest.mark.alone
def test_a_warm_start_loads_the_cached_library():
    from yoso.build import jit

    assert jit.load("cpu")
    start = time.perf_counter()
    assert jit.library().exists()
    assert time.perf_counter() - start < 0.5
    assert min(float(run(WARM)[0]) for _ in range(3)) < 0.5
