"""Every command that reads files, on damaged ones: never a traceback, an exit code 1 without a regression, or silence.

``make fuzz`` tries many more than the tests do (``HARNESS_FUZZ``).
"""

import json
import os
import random
from pathlib import Path

import mutations
import numpy as np
import pytest
import synthetic
from typer.testing import CliRunner

from harness.commands.app import app
from harness.core.record import Clocks, MachineUse
from harness.core.spec import OperationSpec
from harness.core.store import StoreError, read_part

COUNT = int(os.environ.get("HARNESS_FUZZ", "48"))
BATCHES = 4
COMMIT = "0123456789abcdef"
NAME = "damaged"


def with_surroundings(record):
    """The record of an undisturbed case, with all that is known of the machine."""
    used = MachineUse(
        elapsed_seconds=2.5, cores=2, own_cpu_seconds=4.6, foreign_cpu_seconds=0.1, stolen_cpu_seconds=0.0, load=2.1,
        thermal_throttles=0,
    )  # fmt: skip
    clocks = Clocks(core_mhz=[3000, 3010], sm_mhz=1980, gpu_watts=300, gpu_limits=["SwPowerCap"])
    timing = record.timing.model_copy(update={"clocks": clocks, "foreign_gpu_processes": 0, "load_before": 2.0})
    return record.model_copy(update={"machine_use": used, "timing": timing})


def small_run():
    """A run with records of every kind and status, as small as possible: a page of it is soon written."""
    rng = np.random.default_rng(0)
    operations = [synthetic.operation(name, n, rng) for name in ("yoso", "sdpa") for n in (128, 256)]
    operations = [with_surroundings(record) for record in (*operations, operations[0])]  # two rounds of one case
    failed = [
        synthetic.record(OperationSpec(attention="yoso", seq_len=8 * number), status)
        for number, status in enumerate(("unsupported", "incorrect", "oom", "timeout", "crashed", "diverged"), 1)
    ]
    swaps = [synthetic.swap("sdpa", [0.2, 0.3])]
    others = [
        synthetic.model("yoso", "yoso", 128, rng, "forward", "encoder"),
        synthetic.quality("gaussian", 8, rng),
        synthetic.task("yoso", [0.3, 0.4], swaps),
    ]
    return synthetic.run([*operations, *failed, *others], commit=COMMIT)


RUN = small_run().model_dump(mode="json")
GOOD = {"benchmarks": [], "harness": RUN}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "good.json").write_text(json.dumps(GOOD))
    return tmp_path


def command_of(rng, path):
    """A command line that reads the file, and the file that it writes."""
    return rng.choice(
        (
            (
                ["gate", "good.json", path, "--json", "gate.json", "--markdown", "gate.md", "--junit", "gate.xml"],
                "gate.json",
            ),
            (["gate", path, "good.json", "--anyway", "--json", "gate.json", "--markdown", "gate.md"], "gate.json"),
            (["report", path, "--out", "page.html"], "page.html"),
            (["report", "good.json", path, "--out", "page.html"], "page.html"),
            (["history", "add", path], None),
            (["history", "plot", "--out", "history.html"], "history.html"),
            (["publish", path], "reports/index.html"),
        )
    )


def check(folder, arguments, written):
    for name in ("gate.json", "page.html", "history.html"):
        (folder / name).unlink(missing_ok=True)
    done = CliRunner().invoke(app, arguments)
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert done.exit_code in (0, 1, 2), done.output
    assert "Traceback" not in done.output
    assert "unexpected" not in done.output, done.output
    assert max(map(len, done.stderr.splitlines()), default=0) < 3000
    if arguments[0] == "gate":
        found = json.loads((folder / "gate.json").read_text())
        assert found["exit_code"] == done.exit_code
        assert (done.exit_code == 1) == any(row["weight"] == "regression" for row in found["findings"])
        (folder / "gate.md").read_text(encoding="utf-8")
        return
    assert done.exit_code != 1
    if done.exit_code == 2:
        assert done.stderr.startswith("error: ") or "error: " in done.stderr
    elif written is not None:
        assert (folder / written).stat().st_size > 100


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_damaged_run_or_log_never_ends_in_a_traceback_or_in_a_verdict(folder, batch):
    for seed in range(batch, COUNT, BATCHES):
        rng = random.Random(seed)
        header = RUN | {"records": []}
        is_log = rng.randrange(4) == 0
        data = mutations.damaged_log(header, RUN["records"], rng) if is_log else mutations.damaged_run(GOOD, rng)
        path = f"{NAME}.log.jsonl" if is_log else f"{NAME}.json"
        (folder / path).write_bytes(data)
        arguments, written = command_of(rng, path)
        if arguments[:2] == ["history", "plot"]:
            stored = folder / "history" / "machine"
            stored.mkdir(parents=True, exist_ok=True)
            (stored / "a.json").write_text(json.dumps(GOOD))
            (stored / "b.json").write_bytes(data)
        try:
            check(folder, arguments, written)
        except BaseException:
            print(f"seed {seed}: harness {' '.join(arguments)}")
            raise


def test_a_damaged_log_is_resumed_without_the_damaged_line_or_refused_in_one_line(folder):
    for seed in range(COUNT):
        rng = random.Random(seed)
        path = folder / "run.log.jsonl"
        path.write_bytes(mutations.damaged_log(RUN | {"records": []}, RUN["records"], rng))
        notices = []
        try:
            found = read_part(Path(path), notices.append)
        except StoreError as error:
            notices.append(str(error))
        else:
            assert len(found.records) <= len(RUN["records"]) + 100
        assert all(len(notice.splitlines()) == 1 and str(path) in notice for notice in notices)


def test_damaged_thresholds_are_refused_in_one_line_or_are_thresholds(folder):
    for seed in range(COUNT):
        (folder / "pyproject.toml").write_bytes(mutations.damaged_project(random.Random(seed)))
        try:
            check(
                folder, ["gate", "good.json", "good.json", "--json", "gate.json", "--markdown", "gate.md"], "gate.json"
            )
        except BaseException:
            print(f"seed {seed}: {(folder / 'pyproject.toml').read_bytes()[:200]!r}")
            raise
