"""``make gpu``: build the CUDA kernels, run the tests that need a GPU, time each kernel, then measure the gpu profile.

This needs the packages in pyproject.toml except those in ``NOT_NEEDED``, and no network; it installs nothing. Every
step runs in its own process with a time limit. If a step fails, the next steps still run, and the exit code is 1. The
output folder gets ``gpu.json`` (the run), ``gpu.html`` (its report), ``gpu.log.jsonl`` (each record when it was made),
``kernels.json`` (each kernel's time and floor) and a log of every step. ``--resume`` measures only the cases that an
earlier run had no time for. If the checkout has no git, set the environment variable ``HARNESS_COMMIT`` to its commit.
"""

import argparse
import ctypes
import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import IO

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
KERNEL_TIMES = ROOT / "suites/studies/kernel_times.py"
TESTS = (
    ("build", "values"),
    ("attention", "planes"),
    ("harness",),
    ("torch",),
    ("edges", "large"),
    ("bad_input", "memcheck"),
)
"""The test files, with one process per group because a device fault ends its process; the most important first."""
CASE_SECONDS = 60
"""flex compiles for half of that time."""
REPORT_SECONDS = 40
KERNEL_SECONDS = 60
OUTPUT_SECONDS = 5
"""Timeout for the rest of a step's output after its end: a process that the step left behind may hold the pipe open."""
MODULES = {"pytest-benchmark": "pytest_benchmark", "nvidia-ml-py": "pynvml"}
"""Module names of packages whose module has another name."""
NOT_NEEDED = ("accelerate", "kaleido", "plotly", "ruptures")
"""Dependencies that no step needs: they are for the tasks, the report and the gate's history."""


def cuda_reason() -> str | None:
    """Why there is no CUDA device, or None if there is one. Uses the driver, so that torch need not be installed."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "NVIDIA's driver is not installed (libcuda.so.1 is not found)"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return f"NVIDIA's driver returned error {code}"
    return None if count.value else "NVIDIA's driver found no device"


def package_reasons() -> list[str]:
    """Why this Python cannot run the steps: missing packages, or a torch without CUDA. Empty if it can."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in dependencies]
    missing = [n for n in names if n not in NOT_NEEDED and importlib.util.find_spec(MODULES.get(n, n)) is None]
    if not missing:
        import torch

        if not torch.cuda.is_available():
            return [f"torch {torch.__version__} finds no CUDA device (it is built for CUDA {torch.version.cuda})"]
    return [f"package {name} is not installed" for name in missing]


def make_entry_points(folder: Path) -> None:
    """Write the package metadata by which Python finds the attentions of a checkout that is not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items()) for group, entries in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


class Steps:
    """Runs steps one after the other until ``end`` (on the clock of ``time.monotonic``) and collects failures."""

    def __init__(self, out: Path, end: float) -> None:
        self.out = out
        self.end = end
        self.failed: list[str] = []
        paths = [str(ROOT), *([] if _is_installed() else [str(out / "entry_points")])]
        paths += [path for path in [os.environ.get("PYTHONPATH")] if path]
        self.environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}

    def left(self) -> float:
        """Seconds until the end."""
        return self.end - time.monotonic()

    def run(self, name: str, arguments: list[str], seconds: float) -> bool:
        """Run one step; its output goes to the screen and to a log. Returns whether it succeeded."""
        seconds = max(min(seconds, self.left()), 1.0)
        print(f"== {name} (at most {seconds:.0f} s)", flush=True)
        began = time.monotonic()
        command = ["timeout", "--kill-after=10", str(int(seconds)), sys.executable, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment, **pipes)
        reader = threading.Thread(target=self._copy_output, args=(name, process.stdout), daemon=True)
        reader.start()
        code = process.wait()
        reader.join(OUTPUT_SECONDS)
        outcome = "ok" if code == 0 else f"stopped after {seconds:.0f} s" if code in (124, 137) else f"failed ({code})"
        print(f"== {name}: {outcome}, {time.monotonic() - began:.0f} s", flush=True)
        if code:
            self.failed.append(f"{name} {outcome}")
        return code == 0

    def _copy_output(self, name: str, output: IO[bytes]) -> None:
        with output, (self.out / f"{name}.log").open("wb", buffering=0) as log:
            for line in output:
                log.write(line)
                sys.stdout.buffer.write(line)
                sys.stdout.flush()


def _is_installed() -> bool:
    try:
        return bool(distribution("yoso-harness").entry_points)
    except PackageNotFoundError:
        return False


def from_log(log: Path, run: Path, resume: bool) -> list[str]:
    """The suites' option that resumes from the log, if that is wanted and there is one; else the log is deleted.

    An older JSON is always deleted, because it would be mistaken for this run's if this run writes none.
    """
    run.unlink(missing_ok=True)
    if resume and log.exists():
        return [f"--resume={log}"]
    log.unlink(missing_ok=True)
    return []


def has_run(run: Path) -> bool:
    """Whether the JSON was written: pytest-benchmark before 5.3 creates an empty file first."""
    return run.exists() and run.stat().st_size > 0


def rescue(log: Path, run: Path) -> None:
    """Write the run's JSON from its log if the run was stopped before it wrote one."""
    if has_run(run) or not log.exists():
        return
    header, *records = [json.loads(line) for line in log.read_text().split("\n") if line.endswith("}")]
    run.write_text(json.dumps({"harness": header | {"records": records}}))
    print(f"the suites were stopped; {run} has the {len(records)} cases that were finished")


BUILD = """
from yoso import build
import sys, yoso.ops
loaded = build.load("cuda")
print(build.describe("cuda"))
sys.exit(not loaded)
"""


def main() -> int:
    """Run all steps. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="output folder")
    parser.add_argument("--minutes", type=float, default=9.0, help="time limit for all steps together")
    parser.add_argument("--test-seconds", type=float, default=150.0, help="part of that for the tests")
    parser.add_argument(
        "--steps", default="build,tests,kernels,suites", help="comma-separated list of the steps to run"
    )
    parser.add_argument("--resume", action="store_true", help="measure only cases that gpu.log.jsonl does not have")
    parser.add_argument("--check", action="store_true", help="only check whether there is a CUDA device")
    options = parser.parse_args()
    reason = cuda_reason()
    if reason is not None:
        print(f"make gpu needs a CUDA device: {reason}. `make report` measures on the CPU.", file=sys.stderr)
        return 2
    if options.check:
        return 0
    reasons = package_reasons()
    if reasons:
        print("\n".join([*reasons, f"{sys.executable} cannot run make gpu: install what is missing"]), file=sys.stderr)
        return 2

    out = options.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    make_entry_points(out / "entry_points")
    steps = Steps(out, time.monotonic() + 60 * options.minutes)
    step_names = options.steps.split(",")
    run, log = out / "gpu.json", out / "gpu.log.jsonl"
    # Deprecation warnings of other torch or pytest versions must not fail tests of the kernels.
    pytest = ["-m", "pytest", "-W", "default", "-p", "no:cacheprovider"]
    if "build" in step_names:
        steps.run("build", ["-W", "always", "-c", BUILD], steps.left())
    if "tests" in step_names:
        end = time.monotonic() + options.test_seconds
        for group in TESTS:
            files = [str(HERE / f"test_gpu_{name}.py") for name in group]
            flags = ["-q", "-k", "not cpu", "--tb=short"]
            steps.run(f"tests-{group[-1]}", [*pytest, *flags, *files], end - time.monotonic())
    if "kernels" in step_names:
        steps.run("kernels", [str(KERNEL_TIMES), str(out / "kernels.json")], KERNEL_SECONDS)
    if "suites" in step_names:
        resumed = from_log(log, run, options.resume)
        left = steps.left() - REPORT_SECONDS
        limits = [f"--deadline={left - 30:.0f}", f"--case-timeout={CASE_SECONDS}", "--worker"]
        profile = ["--profile=gpu", "--device=cuda", f"--benchmark-json={run}", *resumed]
        steps.run("suites", [*pytest, "-v", "--tb=line", "suites", *profile, *limits], left)
        rescue(log, run)
    if has_run(run) and importlib.util.find_spec("plotly") is None:
        print(f"no report: plotly is not installed. Where it is, run: harness report {run.name} --out gpu.html")
    elif has_run(run):
        command = "from harness.commands.app import app; app()"
        steps.run("report", ["-c", command, "report", str(run), "--out", str(out / "gpu.html")], REPORT_SECONDS)
    print("\n".join(["== all steps succeeded" if not steps.failed else "== failed:", *steps.failed]))
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
