"""The benchmark JSON: what pytest-benchmark reads of a record, and the ``harness`` block with the whole run."""

import json
from collections import Counter
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from harness.core.merged_runs import DIRTY
from harness.core.record import Record, Run, Timing
from harness.core.spec import AnySpec, Effort
from harness.statistics import disturbed_run


def labels(spec: AnySpec) -> dict[str, Any]:
    """How pytest-benchmark names and groups a case."""
    return {"params": {"case": spec.case_id}, "group": f"{spec.kind} n={spec.seq_len}"}


def extra_info(record: Record) -> dict[str, Any]:
    """The record beside pytest-benchmark's statistics, without the samples, which these have."""
    return record.model_dump(mode="json", exclude={"timing"})


def options(timing: Timing, effort: Effort | None = None) -> dict[str, Any]:
    """How the samples were taken, under pytest-benchmark's names; those that have no meaning here are left out.

    Args:
        timing: the samples.
        effort: how long the case was to be sampled; None: it is not known any more.
    """
    known = {"timer": "perf_counter", "disable_gc": True, "warmup": True, "warmup_iterations": timing.warmup_calls}
    return known if effort is None else known | {"min_rounds": effort.min_samples, "max_time": effort.seconds}


def add_samples(stats: Any, record: Record) -> None:
    """Give the samples of a timed record to pytest-benchmark's ``Metadata``, which divides them by its iterations."""
    assert record.timing is not None
    for seconds in record.timing.wall_seconds:
        stats.update(seconds * record.timing.calls_per_sample)


def without_host(machine_info: dict[str, Any]) -> None:
    """Remove the host name, so that a published run does not have it."""
    machine_info.pop("node", None)


def add_run(output: dict[str, Any], run: Run) -> None:
    """Add the run, and beside it what disturbed it, which can be computed from it again."""
    output["harness"] = run.model_dump(mode="json")
    disturbance = disturbed_run.judge(run.records)
    output["harness_disturbance"] = None if disturbance is None else disturbance.as_json()


def of_run(run: Run, test: str) -> str:
    """The benchmark JSON of a run that no session of pytest made.

    Args:
        run: the run.
        test: what pytest-benchmark takes for the name of the test; the case stands behind it in brackets.
    """
    from pytest_benchmark import __version__
    from pytest_benchmark.plugin import pytest_benchmark_generate_machine_info
    from pytest_benchmark.utils import get_commit_info

    machine_info = pytest_benchmark_generate_machine_info()
    without_host(machine_info)
    output = {
        "machine_info": machine_info,
        "commit_info": get_commit_info(),
        "benchmarks": _benchmarks(run, test),
        "datetime": datetime.now(UTC).isoformat(),
        "version": __version__,
    }
    add_run(output, run)
    return json.dumps(output, indent=4, allow_nan=False)


def of_stored_run(run: Run) -> dict[str, Any]:
    """The benchmark JSON of a run that was measured before, perhaps on another machine: all in it is the run's own.

    The test of a case is called as in ``suites``, without the path of its file, which the run does not have.
    """
    from pytest_benchmark import __version__

    commit = run.commit or ""
    output = {
        "machine_info": _machine_info(run),
        "commit_info": {"id": commit.removesuffix(DIRTY) or "unversioned", "dirty": commit.endswith(DIRTY)},
        "benchmarks": _benchmarks(run, None),
        "datetime": run.started,
        "version": __version__,
    }
    add_run(output, run)
    return output


def _machine_info(run: Run) -> dict[str, Any]:
    """The fingerprint of the run's machine, under pytest-benchmark's names where it has them."""
    machine = run.machine
    names = {"machine": "architecture", "processor": "cpu", "python_version": "python"}
    known = {name: machine[field] for name, field in names.items() if machine.get(field) is not None}
    return {**machine, **known, "cpu": {"brand_raw": machine.get("cpu"), "count": machine.get("cores")}}


def _benchmarks(run: Run, test: str | None) -> list[dict[str, Any]]:
    rounds: Counter[str] = Counter()
    benchmarks = []
    for record in run.records:
        if record.timing is not None:
            rounds[record.case_id] += 1
            number = rounds[record.case_id]
            case = record.case_id if number == 1 else f"{record.case_id}-round{number}"
            benchmarks.append(_benchmark(record, f"{test or f'test_{record.spec.kind}'}[{case}]"))
    return benchmarks


def _benchmark(record: Record, name: str) -> dict[str, Any]:
    from pytest_benchmark.stats import Metadata

    assert record.timing is not None
    fields = {**labels(record.spec), "name": name, "fullname": name, "param": record.case_id}
    fixture = SimpleNamespace(**fields, extra_info=extra_info(record), cprofile_stats=None)
    stats = Metadata(fixture, iterations=record.timing.calls_per_sample, options=options(record.timing))
    add_samples(stats, record)
    described: dict[str, Any] = stats.as_dict(include_data=True)
    return described
