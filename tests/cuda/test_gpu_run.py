"""``make gpu`` without a GPU: its checks, its steps and the floors of kernels."""

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/gpu/run.py"
KERNEL_TIMES = ROOT / "suites/studies/kernel_times.py"
KINDS = {"operation", "quality", "model"}


def module_of(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look up their module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def gpu_run():
    return module_of(SCRIPT)


@pytest.fixture(scope="module")
def kernel_times():
    return module_of(KERNEL_TIMES)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("arguments", [[], ["--check"]])
def test_without_a_gpu_it_exits_with_a_one_line_error(arguments):
    done = subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 2
    assert done.stderr.startswith("make gpu needs a CUDA device: ")
    assert len(done.stderr.splitlines()) == 1


def test_entry_points_of_a_checkout_that_is_not_installed(gpu_run, tmp_path):
    gpu_run.make_entry_points(tmp_path)
    code = (
        "import sys; sys.path = [p for p in sys.path if 'editable' not in p]\n"
        "from importlib.metadata import distributions\n"
        f"print([(d.metadata['Name'], len(d.entry_points)) for d in distributions(path=[{str(tmp_path)!r}])])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    import tomllib

    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert done.stdout.strip() == str([("yoso-harness", sum(len(group) for group in groups.values()))])


def test_the_json_of_a_stopped_run_is_written_from_its_log(gpu_run, tmp_path):
    log, run = tmp_path / "gpu.log.jsonl", tmp_path / "gpu.json"
    log.write_text('{"profile": "gpu"}\n{"case_id": "one"}\n{"case_id": "tw')
    gpu_run.rescue(log, run)
    assert json.loads(run.read_text()) == {"harness": {"profile": "gpu", "records": [{"case_id": "one"}]}}


def test_a_run_resumes_from_its_log_only_with_the_option(gpu_run, tmp_path):
    log, run = tmp_path / "gpu.log.jsonl", tmp_path / "gpu.json"
    assert gpu_run.from_log(log, run, resume=True) == []
    for resume in (True, False):
        log.write_text("{}\n")
        run.write_text("{}")
        assert gpu_run.from_log(log, run, resume) == ([f"--resume={log}"] if resume else [])
        assert (log.exists(), run.exists()) == (resume, False)


def test_a_step_that_fails_or_hangs_does_not_end_the_run(gpu_run, tmp_path):
    import time

    steps = gpu_run.Steps(tmp_path, time.monotonic() + 60)
    assert steps.run("good", ["-c", "print('output')"], 30)
    assert not steps.run("bad", ["-c", "raise SystemExit(3)"], 30)
    assert not steps.run("late", ["-c", "import time; time.sleep(30)"], 1)
    assert (tmp_path / "good.log").read_text() == "output\n"
    assert steps.failed == ["bad failed (3)", "late stopped after 1 s"]


@pytest.mark.alone
def test_a_child_that_outlives_its_step_does_not_delay_the_run(gpu_run, tmp_path, monkeypatch):
    """The child keeps the output pipe open."""
    import time

    monkeypatch.setattr(gpu_run, "OUTPUT_SECONDS", 0.2)
    child = "import subprocess, sys; print('output', flush=True); "
    child += "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3)'], start_new_session=True)"
    began = time.monotonic()
    assert gpu_run.Steps(tmp_path, began + 60).run("parent", ["-c", child], 30)
    assert time.monotonic() - began < 2.5
    assert (tmp_path / "parent.log").read_text() == "output\n"


def test_the_steps_run_without_the_packages_that_are_not_needed(gpu_run, tmp_path):
    """Cases of every kind in the suites, run as by ``make gpu`` but on the CPU."""
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({gpu_run.NOT_NEEDED!r}))\n"  # importing one of them fails
    (tmp_path / "sitecustomize.py").write_text(blocked)
    run = tmp_path / "run.json"
    options = ["--attention=yoso,sdpa", "--only", "--all", "--seq-len=128", "--worker", "-W", "default"]
    kinds = "-k=operation or quality or (model and encoder)"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "suites",
            f"--benchmark-json={run}",
            *options,
            kinds,
        ],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert {record["spec"]["kind"] for record in json.loads(run.read_text())["harness"]["records"]} == KINDS


def test_every_test_file_in_tests_gpu_is_in_a_group(gpu_run):
    files = {path.stem.removeprefix("test_gpu_") for path in SCRIPT.parent.glob("test_gpu_*.py")}
    assert files == {name for group in gpu_run.TESTS for name in group}


def test_missing_packages_are_reported_and_pythonpath_is_kept(gpu_run):
    assert gpu_run.package_reasons() == [] or not torch.cuda.is_available()
    assert os.environ.get("PYTHONPATH", "") in gpu_run.Steps(Path("/nowhere"), 0.0).environment["PYTHONPATH"]


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        ("visit_pairs<yoso::cuda::RowLayout<__nv_bfloat16, 8, 8, 1>, true>(", "visit_pairs, key's side"),
        ("visit_pairs<yoso::cuda::RowLayout<__nv_bfloat16, 8, 8, 1>, false>(", "visit_pairs, query's side"),
        ("cumulate<yoso::cuda::RowLayout<__nv_bfloat16, 8, 8, 1> >(", "cumulate"),
        ("sort_codes<true>(", "sort_codes"),
        ("codes_kernel<2, 4, 1, __nv_bfloat16>(", "codes_kernel"),
        ("directions_kernel(", "directions_kernel"),
        ("unit_rows_kernel<__nv_bfloat16, 8, 8, false>(", "unit_rows"),
        ("unit_rows_kernel<__nv_bfloat16, 8, 8, true>(", "unit_rows_backward"),
    ],
)
def test_a_kernel_has_a_name_and_a_floor_proportional_to_the_heads(kernel_times, symbol, name):
    symbol = f"void yoso::cuda::(anonymous namespace)::{symbol}yoso::cuda::Params, unsigned int)"
    assert kernel_times.short_name(symbol) == name
    shape = kernel_times.SHAPES[0]
    single, double = (
        kernel_times.floors(name, s, s.heads * 1e5) for s in (shape, replace(shape, heads=2 * shape.heads))
    )
    assert {key: 2 * amount for key, amount in single.items()} == double


@pytest.mark.parametrize(
    ("flags", "name", "products"),
    [
        ("true, false", "expectation", 2),
        ("false, true", "expectation_backward, query's side", 3),
        ("true, true", "expectation_backward, key's side", 4),
    ],
)
def test_the_modes_of_the_expectation_have_their_own_names_and_floors(kernel_times, flags, name, products):
    short_name = kernel_times.short_name(f"void yoso::cuda::expectation_kernel<__nv_bfloat16, 64, {flags}>(X)")
    assert short_name == name
    one_product = 2 * 64 * 4096**2 * 64
    assert kernel_times.floors(name, kernel_times.SHAPES[0], 0) == {"matmul bfloat16": products * one_product}


def test_gathering_kernels_have_no_floor_if_buckets_are_crowded(kernel_times):
    shape = kernel_times.SHAPES[0]
    few, many = (kernel_times.floors("cumulate", shape, keys * shape.vectors * shape.num_hash) for keys in (2, 20))
    assert few["cache read"] == 2 * shape.vectors * shape.num_hash * 128
    assert many is None


def test_kernels_that_are_not_yosos_have_no_name_and_no_floor(kernel_times):
    assert kernel_times.short_name("void at::native::vectorized_elementwise_kernel<4>(int)") is None
    assert kernel_times.floors("memset", kernel_times.SHAPES[0], 0) is None
