"""The command-line options of the harness inside pytest, checked, and the run that they ask for."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.core.store import StoreError
from harness.profiles import profile as profiles
from harness.profiles.selection import DTYPES, Selection
from harness.pytest_plugin.session import HarnessSession, log_path_for, reproducing_command
from harness.tasks.data_files import DATA_DIR
from harness.training import CHECKPOINTS

_FOLDERS = {"harness_data_dir": DATA_DIR, "harness_checkpoints": CHECKPOINTS}
"""Options that are environment variables inside, because a case may run in another process."""


def add_options(parser: pytest.Parser) -> None:
    """The group ``harness``."""
    group = parser.getgroup("harness", "comparing attentions")
    add = group.addoption
    add("--profile", dest="harness_profile", default="quick", help=f"one of {', '.join(profiles.names())}")
    add("--device", dest="harness_device", default="cpu", help="torch device of all cases: cpu, cuda, cuda:1")
    add("--dtype", dest="harness_dtype", help=f"one of {', '.join(DTYPES)}; default: the profile's")
    listed = "a comma list, or repeat the option; default: the profile's"
    add("--seq-len", dest="harness_seq_lens", action="append", metavar="N", help=f"sequence lengths: {listed}")
    add("--attention", dest="harness_attentions", action="append", metavar="NAME", help=f"attentions: {listed}")
    add("--isolate", dest="harness_isolate", action="store_true", help="run every case in a process of its own")
    add(
        "--case-timeout",
        dest="harness_timeout",
        type=float,
        metavar="SECONDS",
        help="stop a case after this time (a status of its own); implies --isolate where --worker is not given",
    )
    add(
        "--worker",
        dest="harness_worker",
        action="store_true",
        help="run all cases in one other process, which is replaced when a case crashes it or takes too long",
    )
    add(
        "--deadline",
        dest="harness_deadline",
        type=float,
        metavar="SECONDS",
        help="begin no case after this time; those left are records of status timeout",
    )
    add("--resume", dest="harness_resume", metavar="LOG", help="go on with a run that was broken off, from its log")
    add("--harness-cases", dest="harness_cases", metavar="PATH", help="write the collected cases here, as JSON")
    add("--harness-log", dest="harness_log", metavar="PATH", help="the log of records; default: beside the JSON")
    add("--data-dir", dest="harness_data_dir", metavar="DIR", help="folder of real data sets, see docs/tasks.md")
    add(
        "--checkpoints",
        dest="harness_checkpoints",
        metavar="DIR",
        help="keep trainings here, and go on with those that were cut off",
    )


def json_path(config: pytest.Config) -> Path | None:
    """What ``--benchmark-json`` names: a path, and before pytest-benchmark 5.3 a file that is open already."""
    given = config.getoption("benchmark_json", None)
    if given is None:
        return None
    return Path(given if isinstance(given, str | os.PathLike) else given.name)


def session_of(config: pytest.Config) -> HarnessSession:
    """The run that the options ask for.

    Raises:
        pytest.UsageError: an option is wrong; the message says what it must be.
    """
    _hand_on_folders(config)
    try:
        asked = Selection(
            profile=config.getoption("harness_profile", "quick"),
            device=_device(config.getoption("harness_device", "cpu")),
            dtype=config.getoption("harness_dtype", None),
            seq_lens=_numbers(config.getoption("harness_seq_lens", None)),
            attentions=_words(config.getoption("harness_attentions", None)),
        )
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    timeout = config.getoption("harness_timeout", None)
    if timeout is not None and timeout <= 0:
        raise pytest.UsageError(f"--case-timeout must be above 0 seconds, got {timeout:g}")
    worker = config.getoption("harness_worker", False)
    if worker and config.getoption("harness_isolate", False):
        raise pytest.UsageError("--worker is one process for all cases and --isolate one for each; leave one out")
    log = config.getoption("harness_log", None)
    resume = config.getoption("harness_resume", None)
    try:
        return HarnessSession(
            asked,
            reproducing_command(config.invocation_params.args, config.rootpath),
            Path(log) if log else log_path_for(json_path(config), config.rootpath),
            isolated=not worker and (config.getoption("harness_isolate", False) or timeout is not None),
            timeout=timeout,
            worker=worker,
            deadline=config.getoption("harness_deadline", None),
            resume=Path(resume) if resume else None,
        )
    except StoreError as error:
        raise pytest.UsageError(str(error)) from error


def _hand_on_folders(config: pytest.Config) -> None:
    for option, variable in _FOLDERS.items():
        given = config.getoption(option, None)
        if given is None:
            continue
        if option == "harness_data_dir" and not Path(given).is_dir():
            raise pytest.UsageError(f"--data-dir must be a folder, got {given!r}")
        os.environ[variable] = str(Path(given).absolute())


def _device(name: str) -> str:
    import torch

    try:
        return str(torch.device(name))
    except RuntimeError as error:
        raise ValueError(f"--device must be a torch device such as cpu or cuda, got {name!r}") from error


def _words(given: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(word.strip() for one in given for word in one.split(",") if word.strip())


def _numbers(given: Sequence[str] | None) -> tuple[int, ...] | None:
    words = _words(given)
    wrong = [word for word in words or () if not word.isdecimal()]
    if wrong:
        raise ValueError(f"--seq-len must be whole numbers, got {', '.join(wrong)}")
    return None if words is None else tuple(int(word) for word in words)
