"""What every ``harness`` command does with an error: one line on standard error, and an exit code that is no verdict.

Exit codes: 0, all was done; 1, a regression was measured (``MeasuredRegression``, which ``gate`` and ``ab`` raise, and
``run`` where ``--benchmark-compare-fail`` found one, and nothing else); 2, anything else; 130, it was interrupted.
``--debug``, at any place before a ``--``, adds the traceback.
"""

import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

DEBUG = "--debug"
FAILED, INTERRUPTED = 2, 130
"""Exit codes of a command that failed, and of one that the user interrupted (128 and the number of SIGINT)."""


class MeasuredRegression(typer.Exit):
    """Ends a command with exit code 1: it compared two measurements, and the second is worse."""

    def __init__(self) -> None:
        super().__init__(1)


class CommandGroup(TyperGroup):
    """The ``harness`` command, around whose subcommands the boundary is."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> NoReturn:
        """Run a subcommand and end the process with an exit code of this module."""
        words, debug = _without_debug(list(sys.argv[1:] if args is None else args))
        _let_every_text_be_printed()
        try:
            super().main(words, *more, **extra)
            code = 0
        except SystemExit as end:  # also how click ends a command, after it has printed a usage error
            cause = end.__context__
            if debug and cause is not None and cause.__cause__ is not None:
                traceback.print_exception(cause.__cause__)
            if isinstance(cause, OSError):  # click ends silently where standard output is closed
                code = _report(cause, debug)
            else:
                code = _allowed_code(end, isinstance(cause, MeasuredRegression))
        except KeyboardInterrupt:
            code = INTERRUPTED
        except BaseException as error:  # a command never ends with a traceback, or with Python's exit code of one: 1
            code = _report(error, debug)
        raise SystemExit(_flushed(code, debug))


def message(error: BaseException) -> str:
    """One line about an error. The harness's own errors are written for the user; of others the type is named, too."""
    from harness.core.record_text import clean_text, exception_text

    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{clean_text(error.filename)}: "
        return f"{where}{error.strerror}"
    if type(error) is ValueError or type(error).__module__.partition(".")[0] in {"harness", "yoso"}:
        return clean_text(error)
    return f"{exception_text(error)} (unexpected; {DEBUG} shows the traceback)"


def _without_debug(words: list[str]) -> tuple[list[str], bool]:
    """The arguments without ``--debug``, and whether it was among them; behind ``--`` are the arguments of pytest."""
    end = words.index("--") if "--" in words else len(words)
    kept = [word for word in words[:end] if word != DEBUG]
    return kept + words[end:], len(kept) < end


def _let_every_text_be_printed() -> None:
    """Let standard output and error escape what their encoding lacks, so that no character loses a verdict."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _allowed_code(end: SystemExit, measured_regression: bool) -> int:
    if end.code is None or end.code == 0:
        return 0
    if measured_regression or end.code in (FAILED, INTERRUPTED):
        return int(end.code)
    if isinstance(end.code, str):  # sys.exit("message")
        print(f"error: {end.code}", file=sys.stderr)
    return FAILED


def _report(error: BaseException, debug: bool) -> int:
    with suppress(OSError):  # standard error may be closed, too
        if debug:
            traceback.print_exception(error)
        print(f"error: {message(error)}", file=sys.stderr)
    return FAILED


def _flushed(code: int, debug: bool) -> int:
    """The exit code after all output has left this process; Python itself would only complain at its end, with 120."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:  # a full disk, a closed pipe; ValueError: the stream was closed
        code = _report(error, debug)
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code
