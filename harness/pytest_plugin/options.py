"""The command-line options of the pytest plugin, their checks, and the session that they ask for."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.core.store import StoreError
from harness.measure import recordings
from harness.measure.recordings import RecordingFile
from harness.processes.case_worker import CaseWorker, SharedBy
from harness.profiles import profile as profiles
from harness.profiles.selection import DTYPES, Selection
from harness.pytest_plugin.session import HarnessSession, log_path_for, reproducing_command
from harness.tasks.data_files import DATA_DIR
from harness.training import CHECKPOINTS

_FOLDER_VARIABLES = {"harness_data_dir": DATA_DIR, "harness_checkpoints": CHECKPOINTS}
"""Options that are passed on as environment variables, because a case may run in another process."""


def add_options(parser: pytest.Parser) -> None:
    """Add the options of the group ``harness``."""
    add = parser.getgroup("harness", "comparing attentions").addoption
    several = "comma-separated; the option may be repeated. Default: the profile's."
    add("--profile", dest="harness_profile", default="quick", help=f"Which cases run: {_one_of(profiles.names())}.")
    add("--device", dest="harness_device", default="cpu", help="Torch device, for example cpu, cuda or cuda:1.")
    add("--dtype", dest="harness_dtype", help=f"Dtype: {_one_of(DTYPES)}. Default: the profile's.")
    add("--seq-len", dest="harness_seq_lens", action="append", metavar="N", help=f"Sequence lengths, {several}")
    add("--attention", dest="harness_attentions", action="append", metavar="NAME", help=f"Attentions, {several}")
    add(
        "--isolate",
        dest="harness_isolate",
        action="store_true",
        help="Run every case in a fresh process. Default: the cases of one attention share a process.",
    )
    add(
        "--worker",
        dest="harness_worker",
        action="store_true",
        help="Run all cases in one other process, which is replaced when a case crashes, takes too long or changes "
        "the state of the process.",
    )
    add(
        "--in-process",
        dest="harness_in_process",
        action="store_true",
        help="Run all cases in pytest's own process. What an attention changes there that cannot be restored affects "
        "later cases; what ends the process ends the run, and so does a KeyboardInterrupt that an attention raises.",
    )
    add(
        "--case-timeout",
        dest="harness_timeout",
        type=float,
        metavar="SECONDS",
        help="Stop a case after this time, not counting the start of its process; its status is then timeout. "
        "Not with --in-process.",
    )
    add(
        "--deadline",
        dest="harness_deadline",
        type=float,
        metavar="SECONDS",
        help="Start no case after this time; the remaining cases get records of status timeout.",
    )
    add(
        "--resume",
        dest="harness_resume",
        metavar="LOG",
        help="Continue an interrupted run from its log; finished cases are kept.",
    )
    add(
        "--harness-cases",
        dest="harness_cases",
        metavar="PATH",
        help="Write the collected cases to this file, as JSON.",
    )
    add(
        "--harness-log",
        dest="harness_log",
        metavar="PATH",
        help="Where the log of records is written. Default: beside the benchmark JSON.",
    )
    add(
        "--data-dir",
        dest="harness_data_dir",
        metavar="DIR",
        help="Folder with the real data sets of the tasks, see docs/tasks.md.",
    )
    add(
        "--inputs",
        dest="harness_inputs",
        metavar="FILE",
        help="A .safetensors file with query, key and value, [B, H, N, D] each: errors are measured on these in place "
        "of RXNMapper's, see docs/errors.md.",
    )
    add(
        "--checkpoints",
        dest="harness_checkpoints",
        metavar="DIR",
        help="Save trainings in this folder, and continue those that were interrupted.",
    )
    add(
        "--harness-progress",
        dest="harness_progress",
        metavar="COMMAND",
        help="Print a line per case and what is left, in place of pytest's output. COMMAND is the command line that, "
        "with --resume, continues the run. harness run sets it.",
    )


def _one_of(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def json_path(config: pytest.Config) -> Path | None:
    """The path of ``--benchmark-json``, which before pytest-benchmark 5.3 is an open file."""
    path_or_file = config.getoption("benchmark_json", None)
    if path_or_file is None:
        return None
    return Path(path_or_file if isinstance(path_or_file, str | os.PathLike) else path_or_file.name)


def session_of(config: pytest.Config) -> HarnessSession:
    """The session that the options ask for.

    Raises:
        pytest.UsageError: an option is wrong; the message says what was expected.
    """
    _export_folders(config)
    try:
        selection = Selection(
            profile=config.getoption("harness_profile", "quick"),
            device=config.getoption("harness_device", "cpu"),
            dtype=config.getoption("harness_dtype", None),
            seq_lens=_numbers(config.getoption("harness_seq_lens", None)),
            attentions=_words(config.getoption("harness_attentions", None)),
            recording=_recording(config.getoption("harness_inputs", None)),
        )
    except ValueError as error:
        raise pytest.UsageError(str(error)) from error
    log = config.getoption("harness_log", None)
    resume = config.getoption("harness_resume", None)
    try:
        return HarnessSession(
            selection,
            reproducing_command(config.invocation_params.args, config.rootpath),
            Path(log) if log else log_path_for(json_path(config), config.rootpath),
            case_worker=_case_worker(config),
            deadline=config.getoption("harness_deadline", None),
            resume=Path(resume) if resume else None,
        )
    except StoreError as error:
        raise pytest.UsageError(str(error)) from error


def _case_worker(config: pytest.Config) -> CaseWorker | None:
    timeout = config.getoption("harness_timeout", None)
    if timeout is not None and timeout <= 0:
        raise pytest.UsageError(f"--case-timeout must be above 0 seconds, got {timeout:g}")
    options = ("isolate", "worker", "in-process")
    chosen = [option for option in options if config.getoption(f"harness_{option.replace('-', '_')}", False)]
    if len(chosen) > 1:
        raise pytest.UsageError(
            "--isolate is one process per case, --worker one for all cases, and --in-process pytest's own: choose one, "
            f"got {' and '.join(f'--{option}' for option in chosen)}"
        )
    if chosen == ["in-process"]:
        if timeout is not None:
            raise pytest.UsageError(
                "--case-timeout ends the process of a case, which --in-process runs in pytest's own"
            )
        return None
    shared_by: SharedBy = "case" if chosen == ["isolate"] else "run" if chosen == ["worker"] else "attention"
    return CaseWorker(timeout, shared_by)


def _export_folders(config: pytest.Config) -> None:
    for option, variable in _FOLDER_VARIABLES.items():
        folder = config.getoption(option, None)
        if folder is None:
            continue
        if option == "harness_data_dir" and not Path(folder).is_dir():
            raise pytest.UsageError(f"--data-dir must be a folder, got {folder!r}")
        os.environ[variable] = str(Path(folder).absolute())


def _recording(path: str | None) -> RecordingFile | None:
    """The user's file, checked; processes of cases find it by the environment variable."""
    if path is None:
        return None
    os.environ[recordings.FILE] = str(Path(path).absolute())
    return recordings.read_file(Path(path))


def _words(lists: Sequence[str] | None) -> tuple[str, ...] | None:
    """The words of several comma-separated lists, each once."""
    if lists is None:
        return None
    words = (word.strip() for text in lists for word in text.split(","))
    return tuple(dict.fromkeys(word for word in words if word))


def _numbers(lists: Sequence[str] | None) -> tuple[int, ...] | None:
    words = _words(lists)
    wrong = [word for word in words or () if not word.isdecimal()]
    if wrong:
        raise ValueError(f"--seq-len must be whole numbers, got {', '.join(wrong)}")
    return None if words is None else tuple(dict.fromkeys(int(word) for word in words))
