"""The native build: what is missing is said once, plain torch serves meanwhile, and a second start only loads."""

import os
import subprocess
import sys
import time

import pytest

CALL = """
import warnings, torch
import yoso.attention as attention
query = torch.randn(1, 2, 30, 16)
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    torch.manual_seed(0)
    out = attention.yoso_sampling(query, query, query, num_hash=8)
    attention.yoso_e(query, query, query)
print(len(said), *[str(one.message) for one in said], sep="\\n")
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
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    return done.stdout.split("\n")


def test_without_a_compiler_plain_torch_runs_and_says_so_once(tmp_path):
    count, message, *rest = run(CALL, CXX="no-such-compiler", YOSO_CACHE=str(tmp_path))
    assert count == "1"
    assert "plain-torch" in message
    assert "'no-such-compiler' is not on PATH" in message
    assert "g++" in message, "what to do"
    assert rest[0] == "True"


def test_a_compiler_that_fails_is_named_and_plain_torch_runs(tmp_path):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\necho 'fatal: this compiler is broken' >&2\nexit 1\n")
    broken.chmod(0o755)
    count, *rest = run(CALL, CXX=str(broken), YOSO_CACHE=str(tmp_path / "cache"))
    assert count == "1"
    assert "plain-torch" in rest[0]
    assert "compiler" in "\n".join(rest)
    assert "True" in rest


@pytest.mark.alone
def test_importing_costs_little_beside_torch_and_transformers():
    assert min(float(run(IMPORT)[0]) for _ in range(3)) < 0.3


@pytest.mark.alone
def test_a_warm_start_loads_the_cached_library():
    from yoso.build import jit

    assert jit.load("cpu")
    began = time.perf_counter()
    assert jit.library().exists()
    assert time.perf_counter() - began < 0.5
    assert min(float(run(WARM)[0]) for _ in range(3)) < 0.5
