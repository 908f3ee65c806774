"""pytest-benchmark's own options: those that choose what is said and stored hold; others hold or are refused in words.

pytest-benchmark measures nothing here: it gets the samples of the records. So an option of its own measurement either
changes the harness's, or the run ends before it measures.
"""

import os
import shlex
import warnings
from dataclasses import replace
from importlib.util import find_spec

import pytest

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
    "disable": "every case of the harness is a measurement; --benchmark-skip leaves out those that are timed",
    "cprofile": _PROFILER,
    "cprofile-loops": _PROFILER,
    "cprofile-top": _PROFILER,
    "cprofile-dump": _PROFILER,
}
"""Options that cannot hold, with the reason."""


def prepare(config: pytest.Config) -> None:
    """Before pytest-benchmark is configured: print its table only where it was asked for, and never raise its warnings.

    Where warnings are errors, one about a first run, or about another machine, would end pytest with a traceback.
    """
    if not _given(config) & {*_OF_THE_TABLE}:
        config.option.benchmark_quiet = True
    from pytest_benchmark.logger import PytestBenchmarkWarning

    warnings.filterwarnings("default", category=PytestBenchmarkWarning)  # while pytest is configured
    arguments = config.known_args_namespace  # and later
    arguments.pythonwarnings = [
        *(arguments.pythonwarnings or []),
        "default::pytest_benchmark.logger.PytestBenchmarkWarning",
    ]


def reason_against(config: pytest.Config) -> str | None:
    """Why the options of pytest-benchmark do not allow a run with cases of the harness; None if they do."""
    given = _given(config)
    reasons = [f"leave out {_PREFIX}{option}: {why}" for option, why in _REFUSED.items() if option in given]
    if "histogram" in given and not (find_spec("pygal") and find_spec("pygaljs")):
        reasons.append(f"{_PREFIX}histogram needs two packages more: pip install 'pytest-benchmark[histogram]'")
    return "; ".join(reasons) or None


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
