"""The command that measures one case of a run again."""

import re
import shlex
from collections.abc import Mapping
from functools import lru_cache

from harness.core.record import Record, Run

PYTHON_CALL = "harness."
"""How the command of a run begins that a call of ``harness.compare`` or ``harness.run`` made."""
_OPTIONS = (
    "--profile", "--device", "--dtype", "--seq-len", "--attention", "--batch", "--heads", "--head-dim", "--padding",
    "--inputs", "--data-dir",
)  # fmt: skip
"""Options of a run that decide which cases it has."""
_FLAGS = ("--only", "--all")
"""Those of them that have no value."""
_KEYWORD = re.compile(r"[\w:+\-.\[\]\\/=]+")
"""What pytest reads as one name in an expression of ``-k``."""


def case_command(run: Run, record: Record) -> str:
    """``harness run`` with the run's own choice of cases, of which ``-k`` keeps this one.

    A run that a call from Python made is measured again by the same call, because no command knows its functions.
    """
    if run.command.startswith(PYTHON_CALL):
        return run.command
    own = {"--profile": (run.profile,), "--device": (record.spec.device,), **_own_options(run.command)}
    options = [name if name in _FLAGS else f"{name}={value}" for name, values in own.items() for value in values]
    words = ["harness", "run", *options]
    keyword = f"[{record.case_id}]"
    return shlex.join([*words, "-k", keyword] if _KEYWORD.fullmatch(keyword) else words)


def attentions_asked_for(run: Run) -> set[str]:
    """The attentions that the command of the run names; empty where it has those of its profile."""
    named = _own_options(run.command).get("--attention", ())
    return {name.strip() for names in named for name in names.split(",") if name.strip()}


@lru_cache(maxsize=64)
def _own_options(command: str) -> Mapping[str, tuple[str, ...]]:
    """The options of a command that decide its cases, with their values; none where it cannot be read."""
    try:
        words = shlex.split(command)
    except ValueError:
        return {}
    options: dict[str, tuple[str, ...]] = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        if word in _FLAGS:
            options[word] = ("",)
        elif option in _OPTIONS and (equals or following):
            options[option] = (*options.get(option, ()), value if equals else following)
    return options
