"""SIGKILL, SIGTERM, Ctrl-C and a full disk at random moments: nothing that was finished is lost, and nothing is left.

The short form strikes a few times. ``make kill`` strikes every activity in every way, ``HARNESS_KILL_MOMENTS`` times.
"""

import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import gate_runs
import git_project
import psutil
import pytest

from harness.core.store import load, read_part

ROOT = Path(__file__).parents[2]
MOMENTS = int(os.environ.get("HARNESS_KILL_MOMENTS", "0"))
"""Moments of each activity and way; 0: the short form."""
VARIABLE = "HARNESS_KILL_TEST"
"""In the environment of what a test starts, to find what it leaves running."""
HARNESS = [sys.executable, "-c", "from harness.commands.app import app; app()"]
FULL = "full disk"
WAYS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, FULL)


class Activity:
    """What is struck: how it starts, when it has begun, and what must hold afterwards."""

    command: tuple[str, ...]
    seconds = 2.0
    """A strike comes at a random moment in this time after the activity has begun."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begun(self) -> bool:
        """Whether it has done something that can be lost or left."""
        raise NotImplementedError

    def check(self) -> None:
        """Finish what was struck, and compare it with what it would have been."""

    def run(self, command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=self.folder, env=environment(), capture_output=True, text=True)

    def finish(self, command: Sequence[str]) -> None:
        done = self.run(command)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def environment(**more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]), **more}


SUITE = """
import pytest
from harness.core.spec import OperationSpec
from harness.measure import ceilings
ceilings.measure = lambda device: []

def specs(selection):
    return [OperationSpec(attention="none", seq_len=n) for n in range(16, 32)]

@pytest.mark.operation(specs=specs)
def test_operation(case):
    assert case.record.timing is not None
"""


class Run(Activity):
    """``pytest suites/``."""

    command = (
        *(sys.executable, "-m", "pytest", "-q", "-p", "harness.pytest_plugin", "test_suite.py"),
        "--benchmark-json=run.json",
    )

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.log = folder / "run.log.jsonl"
        (folder / "test_suite.py").write_text(SUITE)

    def begun(self) -> bool:
        return self.log.exists() and self.log.read_bytes().count(b"\n") >= 2

    def check(self) -> None:
        kept = read_part(self.log).records
        assert kept
        self.finish([*self.command, f"--resume={self.log}"])
        run = load(self.folder / "run.json")
        assert [record.spec.seq_len for record in run.records] == [*range(16, 32)]
        assert run.records[: len(kept)] == kept
        assert load(self.log).records == run.records


class Ab(Activity):
    """``harness ab`` in the builds and after them."""

    command = (*HARNESS, "ab", "HEAD", "HEAD", "--", "suites")
    seconds = 6.0
    build = """["{{python}} -c 'import time; open(\\"{began}\\", \\"w\\"); time.sleep(2)'"]"""

    def __init__(self, folder: Path) -> None:
        super().__init__(git_project.new(folder / "project"))
        self.began = folder / "began"
        gate = "[tool.harness.gate]\nbuild = " + self.build.format(began=self.began)
        loaded = 'pytest_plugins = ["harness.pytest_plugin"]\n'
        git_project.commit(self.folder, pyproject_dot_toml=gate, suites__test_mine_dot_py=loaded + SUITE)

    def begun(self) -> bool:
        return self.began.exists()

    def check(self) -> None:
        (self.folder / "pyproject.toml").write_text('[tool.harness.gate]\nbuild = ["false"]')
        assert self.run(self.command).returncode == 2
        assert git_project.git(self.folder, "worktree", "list").count("\n") == 0
        assert not list((self.folder.parent / "tmp").glob("harness-worktrees-*"))


class HistoryPush(Activity):
    """``harness history push`` to a remote on the same disk."""

    command = (*HARNESS, "history", "push", "run.json")
    seconds = 0.5

    def __init__(self, folder: Path) -> None:
        self.remote = folder / "remote.git"
        git_project.git(folder, "init", "--quiet", "--bare", str(self.remote))
        super().__init__(git_project.new(folder / "project"))
        git_project.commit(self.folder, _dot_gitignore="*.json")
        git_project.git(self.folder, "remote", "add", "origin", str(self.remote))
        git_project.git(self.folder, "push", "--quiet", "origin", "HEAD:refs/heads/main")
        self.write("a" * 40)
        self.finish(self.command)
        self.before = self.stored()
        self.objects = self.count_objects()
        self.write("b" * 40)

    def count_objects(self) -> int:
        return len([*self.folder.glob(".git/objects/??/*")])

    def write(self, commit: str) -> None:
        base, _ = gate_runs.pair(0, rounds=1, session=None, specs=gate_runs.SPECS[:1])
        run = base.model_copy(update={"commit": commit})
        content = {"benchmarks": [], "harness": run.model_dump(mode="json")}
        (self.folder / "run.json").write_text(json.dumps(content))

    def stored(self) -> list[str]:
        return git_project.git(self.remote, "ls-tree", "-r", "--name-only", "harness-history").splitlines()

    def begun(self) -> bool:
        return self.count_objects() > self.objects

    def check(self) -> None:
        git_project.git(self.remote, "fsck", "--strict")
        assert {*self.before} <= {*self.stored()}
        self.finish(self.command)
        assert len(self.stored()) == len(self.before) + 1
        assert git_project.git(self.folder, "worktree", "list").count("\n") == 0
        assert git_project.git(self.folder, "branch", "--format=%(refname:short)") == "main"
        assert git_project.git(self.folder, "status", "--porcelain") == ""


TRAINING = """
import hashlib, io, sys
from pathlib import Path
import torch
from harness.core.spec import TaskSpec
from harness.training import train

score = train.score
def score_and_keep(trainer, *arguments):
    weights = [tensor.numpy().tobytes() for tensor in trainer.model.state_dict().values()]
    Path(sys.argv[1] + ".sha256").write_text(hashlib.sha256(b"".join(weights)).hexdigest())
    return score(trainer, *arguments)
train.score = score_and_keep
spec = TaskSpec(attention="yoso", task="needle", seq_len=12, seeds=1, steps=40, batch=16, train_examples=200,
                eval_examples=50, layers=1, hidden_size=32)
result = train.train(spec, checkpoints=Path(sys.argv[1]), save_seconds=0.0)
Path(sys.argv[1] + ".scores").write_text(repr(result.scores))
"""


class Training(Activity):
    """A training with checkpoints."""

    command = (sys.executable, "-c", TRAINING, "kept")

    def begun(self) -> bool:
        return bool([*self.folder.glob("kept/*/seed-0/checkpoint-*/spent.json")])

    def check(self) -> None:
        self.finish(self.command)
        self.finish([*self.command[:-1], "whole"])
        for ending in ("sha256", "scores"):
            assert (self.folder / f"kept.{ending}").read_text() == (self.folder / f"whole.{ending}").read_text()


class KernelBuild(Activity):
    """The build of the native kernels."""

    command = (sys.executable, "-c", "from yoso.build import jit; assert jit.load('cpu')")
    seconds = 60.0

    def begun(self) -> bool:
        return any((self.folder.parent / "cache").glob("*"))

    def check(self) -> None:
        self.finish(self.command)


ACTIVITIES = {activity.__name__: activity for activity in (Run, Ab, HistoryPush, Training, KernelBuild)}
SHORT = [
    ("Run", signal.SIGKILL),
    ("Run", FULL),
    ("Ab", signal.SIGKILL),
    ("Ab", signal.SIGTERM),
    ("HistoryPush", signal.SIGKILL),
    ("Training", signal.SIGKILL),
]
ALL = [(name, way) for name in ACTIVITIES for way in WAYS if (name, way) != ("HistoryPush", FULL)]
STRIKES = [(*strike, number) for strike in (ALL if MOMENTS else SHORT) for number in range(MOMENTS or 1)]


@pytest.mark.parametrize(
    ("name", "way", "number"),
    STRIKES,
    ids=[f"{name}, {getattr(way, 'name', way)}, {number}" for name, way, number in STRIKES],
)
def test_nothing_finished_is_lost_and_nothing_is_left_whenever_it_is_struck(tmp_path, monkeypatch, name, way, number):
    for variable in ("TMPDIR", "YOSO_CACHE"):
        folder = tmp_path / ("tmp" if variable == "TMPDIR" else "cache")
        folder.mkdir()
        if variable == "TMPDIR" or name == "KernelBuild":
            monkeypatch.setenv(variable, str(folder))
    (tmp_path / "work").mkdir()
    activity = ACTIVITIES[name](tmp_path if name in ("Ab", "HistoryPush") else tmp_path / "work")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, signal, sys; signal.signal(2, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])",
            *activity.command,
        ],
        cwd=activity.folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and not activity.begun():
        assert time.monotonic() < deadline, "it did not begin"
        time.sleep(0.01)
    assert activity.begun(), process.returncode
    wait = activity.seconds * random.Random(f"{name} {way} {number}").random()
    time.sleep(wait)
    if way == FULL:
        size = max((file.stat().st_size for file in activity.folder.glob("*.jsonl")), default=0) + 10
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))
    else:
        process.send_signal(way)
    code = process.wait(timeout=120)
    if way != FULL:  # 0: it had finished; 2: pytest's code for Ctrl-C; -way: before the command handled signals
        assert code in (0, 2, 128 + way, -way)
    assert left_running(str(tmp_path)) == [], f"after {wait:.2f} s"
    monkeypatch.delenv(VARIABLE)
    activity.check()
    shutil.rmtree(tmp_path, ignore_errors=True)  # checkpoints and kernels


def left_running(value: str) -> list[str]:
    """The command lines of the processes that a test has left, which may take a moment to end."""
    deadline = time.monotonic() + 10
    while True:
        left = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(VARIABLE) == value:
                    left.append(" ".join(process.cmdline()))
            except (psutil.Error, OSError):
                pass
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
