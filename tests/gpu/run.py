"""``make gpu``: build the CUDA kernels, run the tests that need a GPU, time each kernel, then measure the gpu profile.

It needs the packages in pyproject.toml but for a few (``NOT_NEEDED``) and no network, and installs nothing. Every step
runs in a process of its own and under a time limit; a step that fails does not keep the next from running, but makes
the exit code 1. What is left under the output folder: ``gpu.json`` (the run), ``gpu.html`` (its report),
``gpu.log.jsonl`` (each record as it came), ``kernels.json`` (each kernel beside its floor) and a log of every step.
``--resume`` measures what a run before had no time for. Where the checkout has no git, the environment variable
``HARNESS_COMMIT`` says which commit it is.
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
TESTS = (
    ("build", "values"),
    ("attention", "planes"),
    ("harness",),
    ("torch",),
    ("edges", "large"),
    ("bad_input", "memcheck"),
)
"""The test files, a process each group, since a fault of the device ends its process; in the order of their worth."""
CASE_SECONDS = 60
"""flex compiles for half of it."""
REPORT_SECONDS = 40
KERNEL_SECONDS = 60
LAST_WORDS_SECONDS = 5
"""What a step's output is waited for after its end: a process that it left behind may hold the pipe."""
MODULES = {"pytest-benchmark": "pytest_benchmark", "nvidia-ml-py": "pynvml"}
"""Packages whose module has another name."""
NOT_NEEDED = ("accelerate", "kaleido", "plotly", "ruptures")
"""Packages that the steps do without: they serve the tasks, the report and the gate's history."""


def cuda_reason() -> str | None:
    """Why there is no CUDA device, in words; None where there is one. Asks the driver, so that torch is not needed."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "NVIDIA's driver is not installed (libcuda.so.1 is not found)"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        return f"NVIDIA's driver answers with error {code}"
    return None if count.value else "NVIDIA's driver sees no device"


def package_reasons() -> list[str]:
    """What this Python lacks."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in wanted]
    missing = [n for n in names if n not in NOT_NEEDED and importlib.util.find_spec(MODULES.get(n, n)) is None]
    if not missing:
        import torch

        if not torch.cuda.is_available():
            return [f"torch {torch.__version__} sees no CUDA device (it is built for CUDA {torch.version.cuda})"]
    return [f"package {name} is not installed" for name in missing]


def make_entry_points(folder: Path) -> None:
    """Metadata of this checkout for Python to find attentions by, where the project is not installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in of.items()) for group, of in groups]
    (info / "entry_points.txt").write_text("\n".join(lines))


class Steps:
    """Runs steps one after the other until ``end`` (on ``time.monotonic``'s clock), and keeps what failed."""

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
        """One step: its output goes to the screen and to a log. Returns whether it succeeded."""
        seconds = max(min(seconds, self.left()), 1.0)
        print(f"== {name} (at most {seconds:.0f} s)", flush=True)
        began = time.monotonic()
        command = ["timeout", "--kill-after=10", str(int(seconds)), sys.executable, *arguments]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(command, cwd=ROOT, env=self.environment, **pipes)
        reader = threading.Thread(target=self._show, args=(name, process.stdout), daemon=True)
        reader.start()
        code = process.wait()
        reader.join(LAST_WORDS_SECONDS)
        words = "ok" if code == 0 else f"stopped after {seconds:.0f} s" if code in (124, 137) else f"failed ({code})"
        print(f"== {name}: {words}, {time.monotonic() - began:.0f} s", flush=True)
        if code:
            self.failed.append(f"{name} {words}")
        return code == 0

    def _show(self, name: str, output: IO[bytes]) -> None:
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
    """The suites' option to go on from the log, where that is wanted and there is one; else it is cleared away.

    An older JSON is always deleted: where this run writes none, it would be taken for this run's.
    """
    run.unlink(missing_ok=True)
    if resume and log.exists():
        return [f"--resume={log}"]
    log.unlink(missing_ok=True)
    return []


def has_run(run: Path) -> bool:
    """Whether it was written: pytest-benchmark before 5.3 opens the file first."""
    return run.exists() and run.stat().st_size > 0


def rescue(log: Path, run: Path) -> None:
    """Make the run's JSON from its log, where the run was stopped before it wrote one."""
    if has_run(run) or not log.exists():
        return
    header, *records = [json.loads(line) for line in log.read_text().splitlines() if line.endswith("}")]
    run.write_text(json.dumps({"harness": header | {"records": records}}))
    print(f"the suites were stopped; {run} has the {len(records)} cases that were done")


BUILD = """
from yoso import build
import sys, yoso.ops
loaded = build.load("cuda")
print(build.describe("cuda"))
sys.exit(not loaded)
"""


def main() -> int:
    """All steps; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("out"), help="folder for everything that is left")
    parser.add_argument("--minutes", type=float, default=9.0, help="for all steps together")
    parser.add_argument("--test-seconds", type=float, default=150.0, help="of these for the tests")
    parser.add_argument("--steps", default="build,tests,kernels,suites", help="a comma list of some of the four")
    parser.add_argument("--resume", action="store_true", help="keep the cases that gpu.log.jsonl has; measure the rest")
    parser.add_argument("--check", action="store_true", help="only say whether there is a CUDA device")
    given = parser.parse_args()
    reason = cuda_reason()
    if reason is not None:
        print(f"make gpu needs a CUDA device: {reason}. `make report` measures on the CPU.", file=sys.stderr)
        return 2
    if given.check:
        return 0
    lacking = package_reasons()
    if lacking:
        print("\n".join([*lacking, f"{sys.executable} cannot run this: install what is missing"]), file=sys.stderr)
        return 2

    out = given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    make_entry_points(out / "entry_points")
    steps = Steps(out, time.monotonic() + 60 * given.minutes)
    wanted = given.steps.split(",")
    run, log = out / "gpu.json", out / "gpu.log.jsonl"
    # Warnings of a torch or a pytest that this project was not written with are no faults of its kernels.
    pytest = ["-m", "pytest", "-W", "default", "-p", "no:cacheprovider"]
    if "build" in wanted:
        steps.run("build", ["-W", "always", "-c", BUILD], steps.left())
    if "tests" in wanted:
        end = time.monotonic() + given.test_seconds
        for group in TESTS:
            files = [str(HERE / f"test_gpu_{name}.py") for name in group]
            options = ["-q", "-k", "not cpu", "--tb=short"]
            steps.run(f"tests-{group[-1]}", [*pytest, *options, *files], end - time.monotonic())
    if "kernels" in wanted:
        steps.run("kernels", [str(HERE / "kernel_times.py"), str(out / "kernels.json")], KERNEL_SECONDS)
    if "suites" in wanted:
        resumed = from_log(log, run, given.resume)
        left = steps.left() - REPORT_SECONDS
        limits = [f"--deadline={left - 30:.0f}", f"--case-timeout={CASE_SECONDS}", "--worker"]
        where = ["--profile=gpu", "--device=cuda", f"--benchmark-json={run}", *resumed]
        steps.run("suites", [*pytest, "-v", "--tb=line", "suites", *where, *limits], left)
        rescue(log, run)
    if has_run(run) and importlib.util.find_spec("plotly") is None:
        print(f"no report: plotly is not installed here. Elsewhere: harness report {run.name} --out gpu.html")
    elif has_run(run):
        command = "from harness.commands.app import app; app()"
        steps.run("report", ["-c", command, "report", str(run), "--out", str(out / "gpu.html")], REPORT_SECONDS)
    print("\n".join(["== all steps succeeded" if not steps.failed else "== failed:", *steps.failed]))
    return 1 if steps.failed else 0


if __name__ == "__main__":
    sys.exit(main())
