"""The command-line options of the pytest plugin, their checks, and the session that they ask for."""

import math
import os
import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

from harness.core.spec import QualityInputs
from harness.measure import recordings
from harness.measure.recordings import RecordingFile
from harness.processes.case_worker import CaseWorker, SharedBy
from harness.profiles import profile as profiles
from harness.profiles.selection import DTYPES, Selection, Shape
from harness.pytest_plugin import benchmark_options
from harness.pytest_plugin.session import HarnessSession, log_path_for, reproducing_command
from harness.tasks.data_files import DATA_DIR
from harness.training import CHECKPOINTS

KINDS_OF_INPUTS: tuple[QualityInputs, ...] = get_args(QualityInputs)
_FOLDER_VARIABLES = {"harness_data_dir": DATA_DIR, "harness_checkpoints": CHECKPOINTS}
"""Options that are passed on as environment variables, because a case may run in another process."""


@dataclass(frozen=True)
class Option:
    """One option of the harness, for pytest and for the help of ``harness run``.

    ``metavar`` names its value; None: it is a flag. ``several`` options may be repeated. ``in_run`` is False where
    ``harness run`` sets the option itself.
    """

    flag: str
    help: str
    metavar: str | None = None
    dest: str = ""
    default: str | None = None
    several: bool = False
    in_run: bool = True

    def add_to(self, group: pytest.OptionGroup) -> None:
        """Add the option to pytest's parser. Values are checked by ``session_of``, whose errors are one line each."""
        dest = self.dest or f"harness_{self.flag.removeprefix('--').replace('-', '_')}"
        if self.metavar is None:
            group.addoption(self.flag, dest=dest, action="store_true", help=self.help)
        else:
            action = "append" if self.several else "store"
            group.addoption(
                self.flag, dest=dest, action=action, metavar=self.metavar, default=self.default, help=self.help
            )


def options() -> tuple[Option, ...]:
    """Every option of the group ``harness``."""
    several = "comma-separated; may be repeated. Default: the profile's."
    of_profile = "Default: the profile's."
    return (
        Option("--profile", f"Which cases run: {_one_of(profiles.names())}.", "NAME", default="quick"),
        Option(
            "--attention",
            "Measure these attentions alone, time and errors, beside softmax, sdpa and yoso; " + several,
            "NAME",
            dest="harness_attentions",
            several=True,
        ),
        Option("--only", "With --attention: measure no other attention beside those."),
        Option(
            "--all",
            "With --attention: also whole models, trained tasks and all lengths of the profile.",
            dest="harness_everything",
        ),
        Option("--seq-len", f"Sequence lengths in tokens, {several}", "TOKENS", dest="harness_seq_lens", several=True),
        Option("--batch", f"Sequences per call, of operations, errors and models. {of_profile}", "SEQUENCES"),
        Option("--heads", f"Heads, of operations, errors and models. {of_profile}", "HEADS"),
        Option("--head-dim", f"Numbers per head, of operations, errors and models. {of_profile}", "NUMBERS"),
        Option(
            "--padding",
            f"Padded share of each sequence, 0 to below 1, of operations. {of_profile}",
            "FRACTION",
        ),
        Option("--dtype", f"Dtype: {_one_of(DTYPES)}. {of_profile}", "DTYPE"),
        Option("--device", "Torch device, for example cpu, cuda or cuda:1.", "DEVICE", default="cpu"),
        Option(
            "--inputs",
            f"Inputs of errors: {_one_of(KINDS_OF_INPUTS)}, comma-separated; or a .safetensors file with query, key "
            "and value, [B, H, N, D] each, in place of the recorded ones, see docs/errors.md.",
            "KINDS|FILE",
        ),
        Option(
            "--rounds",
            "Time every case in so many processes, one after the other, so that intervals are between processes. "
            "Default: 1.",
            "ROUNDS",
        ),
        Option("--isolate", "Run every case in a fresh process. Default: the cases of one attention share a process."),
        Option(
            "--worker",
            "Run all cases in one other process, which is replaced when a case crashes, takes too long or changes the "
            "state of the process.",
        ),
        Option(
            "--in-process",
            "Run all cases in pytest's own process. What an attention changes there that cannot be restored affects "
            "later cases; what ends the process ends the run, and so does a KeyboardInterrupt that an attention "
            "raises.",
        ),
        Option(
            "--case-timeout",
            "Stop a case after this time, not counting the start of its process; its status is then timeout. Not with "
            "--in-process.",
            "SECONDS",
            dest="harness_timeout",
        ),
        Option(
            "--deadline",
            "Start no case after this time; the remaining cases get records of status timeout.",
            "SECONDS",
        ),
        Option("--resume", "Continue an interrupted run from its log; finished cases are kept.", "LOG"),
        Option(
            "--harness-cases", "Write the collected cases to this file, as JSON.", "PATH", "harness_cases", in_run=False
        ),
        Option(
            "--harness-log",
            "Where the log of records is written. Default: beside the benchmark JSON.",
            "PATH",
            dest="harness_log",
        ),
        Option("--data-dir", "Folder with the real data sets of the tasks, see docs/tasks.md.", "DIR"),
        Option("--checkpoints", "Save trainings in this folder, and continue those that were interrupted.", "DIR"),
        Option(
            "--harness-progress",
            "Print a line per case and what is left, in place of pytest's output. COMMAND is the command line that, "
            "with --resume, continues the run. harness run sets it.",
            "COMMAND",
            dest="harness_progress",
            in_run=False,
        ),
    )


def add_options(parser: pytest.Parser) -> None:
    """Add the options of the group ``harness``."""
    group = parser.getgroup("harness", "comparing attentions")
    for option in options():
        option.add_to(group)


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
    log = config.getoption("harness_log", None)
    resume = config.getoption("harness_resume", None)
    try:
        selection = _selection(config)
        return HarnessSession(
            selection,
            _command(config),
            Path(log) if log else log_path_for(json_path(config), config.rootpath),
            case_worker=_case_worker(config),
            deadline=_seconds(config, "--deadline", "harness_deadline"),
            resume=Path(resume) if resume else None,
            rounds=_rounds(config),
            effort=benchmark_options.effort_of(config, selection.effort),
        )
    except ValueError as error:  # also a StoreError
        raise pytest.UsageError(str(error)) from error


def _selection(config: pytest.Config) -> Selection:
    """What the user asked for. ``harness ab`` asks for the cases of a commit by ``--harness-cases``, and measures just
    the attentions that are named, in all that the profile has for them."""
    is_for_ab = config.getoption("harness_cases", None) is not None
    attentions = _words(config.getoption("harness_attentions", None))
    recording, inputs = _inputs(config.getoption("harness_inputs", None))
    padding = config.getoption("harness_padding", None)
    batch, heads, head_dim = (
        _whole_number(f"--{name}", config.getoption(f"harness_{name.replace('-', '_')}", None))
        for name in ("batch", "heads", "head-dim")
    )
    return Selection(
        profile=config.getoption("harness_profile", "quick"),
        device=config.getoption("harness_device", "cpu"),
        dtype=config.getoption("harness_dtype", None),
        seq_lens=_numbers(config.getoption("harness_seq_lens", None)),
        attentions=attentions,
        recording=recording,
        inputs=inputs,
        shape=Shape(batch, heads, head_dim, None if padding is None else _padding(padding)),
        only=config.getoption("harness_only", False) or (is_for_ab and attentions is not None),
        everything=config.getoption("harness_everything", False) or is_for_ab,
    )


def _command(config: pytest.Config) -> str:
    """The command line that started the run: of ``harness run``, if that started pytest."""
    command = config.getoption("harness_progress", None)
    words = ["pytest", *config.invocation_params.args] if command is None else shlex.split(command)
    return reproducing_command(words, config.rootpath)


def repeated(config: pytest.Config) -> list[str]:
    """A line for each option whose values the user repeated, and which are measured once."""
    lines = []
    for option, name in (("--seq-len", "harness_seq_lens"), ("--attention", "harness_attentions")):
        words = [word.strip() for text in config.getoption(name, None) or () for word in text.split(",")]
        values = [str(int(word)) if option == "--seq-len" else word for word in words if word]
        more_than_once = [value for value, count in Counter(values).items() if count > 1]
        if more_than_once:
            lines.append(f"{option} repeats {', '.join(more_than_once)}: each is measured once")
    return lines


def _case_worker(config: pytest.Config) -> CaseWorker | None:
    timeout = _seconds(config, "--case-timeout", "harness_timeout")
    options = ("isolate", "worker", "in-process")
    chosen = [option for option in options if config.getoption(f"harness_{option.replace('-', '_')}", False)]
    if len(chosen) > 1:
        raise pytest.UsageError(
            "--isolate is one process per case, --worker one for all cases, and --in-process pytest's own: choose one, "
            f"got {' and '.join(f'--{option}' for option in chosen)}"
        )
    if chosen in (["in-process"], ["worker"]) and (rounds := _rounds(config)) > 1:
        raise pytest.UsageError(
            f"--rounds {rounds} times each case in so many processes, and --{chosen[0]} has one: leave out one of them"
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


def _inputs(text: str | None) -> tuple[RecordingFile | None, tuple[QualityInputs, ...] | None]:
    """The user's file, checked, or the kinds of inputs. Processes of cases find the file by the environment variable.

    Raises:
        ValueError: it is neither; or the file is no recording.
    """
    words = _words(None if text is None else [text])
    if text is None or words is None:
        return None, None
    if all(word in KINDS_OF_INPUTS for word in words) and words:
        return None, tuple(kind for kind in KINDS_OF_INPUTS if kind in words)
    if not text.endswith(".safetensors") and not Path(text).exists():
        raise ValueError(f"--inputs must be {_one_of(KINDS_OF_INPUTS)}, or a .safetensors file, got {text!r}")
    os.environ[recordings.FILE] = str(Path(text).absolute())
    return recordings.read_file(Path(text)), None


def _padding(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"--padding must be a fraction from 0 to below 1, such as 0.25, got {text!r}") from None


def _seconds(config: pytest.Config, option: str, name: str) -> float | None:
    text = config.getoption(name, None)
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    is_allowed = seconds >= 0 if option == "--deadline" else seconds > 0
    if not is_allowed or math.isinf(seconds):
        least = "0 or more" if option == "--deadline" else "above 0"
        raise pytest.UsageError(f"{option} must be a number of seconds, {least}, such as 60, got {text!r}")
    return seconds


def _rounds(config: pytest.Config) -> int:
    return _whole_number("--rounds", config.getoption("harness_rounds", None)) or 1


def _whole_number(option: str, text: str | None) -> int | None:
    """A number of 1 or more; None where the option was not given."""
    if text is None:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{option} must be a whole number of 1 or more, got {text!r}")
    return int(text)


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
        raise ValueError(f"--seq-len must be whole numbers of tokens, got {', '.join(wrong)}")
    return None if words is None else tuple(dict.fromkeys(int(word) for word in words))
