"""pytest-benchmark's own options: those that choose what is said and stored hold; others hold or are refused in words.

pytest-benchmark measures nothing here: it gets the samples of the records. So an option of its own measurement either
changes the harness's, or the run ends before it measures.
"""

import os
import shlex
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.core import writable
from harness.core.spec import Effort

_PREFIX = "--benchmark-"
_OF_THE_TABLE = (
    "compare", "compare-fail", "histogram", "columns", "sort", "group-by", "name", "time-unit", "verbose",
)  # fmt: skip
"""Options for which pytest-benchmark prints its table, with a row per case; the harness prints one per attention."""
_ITERATIONS = "the harness groups calls shorter than half a millisecond until a sample lasts that long"
_WARM_UP = "the harness warms every call up as the profile says"
_STOP = "the harness takes samples until the profile's time has passed; --benchmark-max-time sets that time"
_PROFILER = "a profiler would change the times; no case is profiled"
_REFUSED = {
    "min-time": _ITERATIONS,
    "calibration-precision": _ITERATIONS,
    "warmup": _WARM_UP,
    "warmup-iterations": _WARM_UP,
    "precision": _STOP,
    "confidence": _STOP,
    "timer": "the harness times with time.perf_counter, and with CUDA's events on a GPU",
    "disable-gc": "the harness switches the garbage collector off while it takes samples, in any case",
    "disable": "every case of the harness is a measurement; -m 'quality or task' leaves out those that are timed",
    "cprofile": _PROFILER,
    "cprofile-loops": _PROFILER,
    "cprofile-top": _PROFILER,
    "cprofile-dump": _PROFILER,
}
"""Options that cannot hold, with the reason."""


_STORAGE_IS_NEW = pytest.StashKey[bool]()
"""Whether there was no folder for stored runs before this run."""
OPTIONS_THAT_LEAVE_OUT = "--benchmark-skip, --benchmark-only, -k, -m or --deselect"


def prepare(config: pytest.Config) -> None:
    """Before pytest-benchmark is configured: print its table only where it was asked for, and never raise its warnings.

    Where warnings are errors, one about a first run, or about another machine, would end pytest with a traceback.
    """
    if not _given(config) & {*_OF_THE_TABLE}:
        config.option.benchmark_quiet = True
    config.stash[_STORAGE_IS_NEW] = not _storage_folder(config).exists()
    from pytest_benchmark.logger import PytestBenchmarkWarning

    warnings.filterwarnings("default", category=PytestBenchmarkWarning)  # while pytest is configured
    arguments = config.known_args_namespace  # and later
    arguments.pythonwarnings = [
        *(arguments.pythonwarnings or []),
        "default::pytest_benchmark.logger.PytestBenchmarkWarning",
    ]


def remove_empty_storage(config: pytest.Config) -> None:
    """Remove the folder that pytest-benchmark has made for stored runs, where it stored none."""
    if config.stash.get(_STORAGE_IS_NEW, False):
        with suppress(OSError):  # it has stored runs, or is not there
            _storage_folder(config).rmdir()


def _storage_folder(config: pytest.Config) -> Path:
    return config.invocation_params.dir / str(config.getoption("benchmark_storage")).removeprefix("file://")


def reason_against(config: pytest.Config, tests: Sequence[str]) -> str | None:
    """Why the options of pytest-benchmark do not allow a run with cases of the harness; None if they do.

    Args:
        config: pytest's.
        tests: the node ids of the collected tests.
    """
    given = _given(config)
    reasons = [f"leave out {_PREFIX}{option}: {why}" for option, why in _REFUSED.items() if option in given]
    if "histogram" in given and not (find_spec("pygal") and find_spec("pygaljs")):
        reasons.append(f"{_PREFIX}histogram needs two packages more: pip install 'pytest-benchmark[histogram]'")
    reasons += [reason] if (reason := _reason_against_comparison(config, tests)) else []
    return "; ".join(reasons) or None


def _reason_against_comparison(config: pytest.Config, tests: Sequence[str]) -> str | None:
    """Why ``--benchmark-compare-fail`` could judge nothing, which pytest-benchmark would find after the run."""
    benchmarks = config._benchmarksession  # type: ignore[attr-defined]
    if not benchmarks.compare_fail:
        return None
    option, needed = f"{_PREFIX}compare-fail", f"{_PREFIX}compare"
    if not benchmarks.compare:
        return f"{option} needs a stored run to compare with: add {needed}, or leave it out"
    if not benchmarks.compared_mapping:
        which = "" if benchmarks.compare is True else f" that matches {benchmarks.compare!r}"
        return (
            f"{option} needs a stored run to compare with, and {benchmarks.storage} has none{which}: store one with "
            f"{_PREFIX}autosave first"
        )
    if not any(test in compared for compared in benchmarks.compared_mapping.values() for test in tests):
        runs = ", ".join(map(str, benchmarks.compared_mapping))
        return f"{option} has nothing to compare: {runs} has none of the {len(tests)} tests of this run; name another"
    return None


def reason_against_storage(config: pytest.Config) -> str | None:
    """Why pytest-benchmark cannot store the run where it was told to; None if it can, or need not."""
    from pytest_benchmark.storage.file import FileStorage

    benchmarks = config._benchmarksession  # type: ignore[attr-defined]
    if not (benchmarks.save or benchmarks.autosave) or not isinstance(benchmarks.storage, FileStorage):
        return None
    folder = benchmarks.storage.path
    return writable.reason_against(f"{_PREFIX}storage", folder, benchmarks.storage.get("run.json"))


def is_left_out(config: pytest.Config, item: pytest.Item) -> bool:
    """Whether ``--benchmark-skip`` or ``--benchmark-only`` leaves a test out."""
    benchmarks = config._benchmarksession  # type: ignore[attr-defined]
    is_timed = "benchmark" in getattr(item, "fixturenames", ())
    return bool(benchmarks.skip if is_timed else benchmarks.only)


def effort_of(config: pytest.Config, of_profile: Effort) -> Effort:
    """The profile's effort with ``--benchmark-min-rounds`` samples or ``--benchmark-max-time`` seconds per case."""
    given = _given(config)
    changes: dict[str, float] = {}
    if "min-rounds" in given:
        least = int(config.getoption("benchmark_min_rounds"))
        changes |= {"min_samples": least, "max_samples": max(least, of_profile.max_samples)}
    if "max-time" in given:
        changes["seconds"] = float(config.getoption("benchmark_max_time"))
    return replace(of_profile, **changes)  # type: ignore[arg-type]  # mypy takes each field for both types


def _given(config: pytest.Config) -> set[str]:
    """The options of pytest-benchmark that the user gave, also where their value is the default."""
    words = [
        *config.invocation_params.args,
        *config.getini("addopts"),
        *shlex.split(os.environ.get("PYTEST_ADDOPTS", "")),
    ]
    options = (str(word).partition("=")[0] for word in words)
    return {option.removeprefix(_PREFIX) for option in options if option.startswith(_PREFIX)}
