"""SIGTERM and SIGHUP end a run as Ctrl-C does: finished records are kept, and processes and worktrees are removed.

By default both end Python at once. Batch systems, service managers and closed terminals send them, and a script's
background processes have SIGINT ignored, so that SIGTERM is the only way to ask them to end.
"""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
received: signal.Signals | None = None
"""The signal that ends this process; None if none came."""
_deferring = False
_pending = False


def install() -> Callable[[], None]:
    """Let the first of these signals raise KeyboardInterrupt; returns a function that restores the old handlers.

    Later ones do not interrupt the clean-up, except Ctrl-C. A signal that is ignored stays ignored, as ``nohup`` asks
    for SIGHUP and a shell for SIGINT of background processes, and so does a handler that the program has set. Only the
    main thread can set handlers: in others nothing changes.
    """
    defaults = (signal.SIG_DFL, signal.default_int_handler)
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    before = {number: signal.getsignal(number) for number in ENDING}
    changed = [number for number in ENDING if before[number] in defaults]
    for number in changed:
        signal.signal(number, _interrupt)

    def restore() -> None:
        for number in changed:
            signal.signal(number, before[number])

    return restore


@contextmanager
def deferred() -> Iterator[None]:
    """A signal that comes inside raises at the end: what is written inside is written whole."""
    global _deferring, _pending
    if _deferring:
        yield
        return
    _deferring, _pending = True, False
    try:
        yield
    finally:
        _deferring = False
    if _pending:
        raise KeyboardInterrupt


def exit_code() -> int | None:
    """The exit code of a process that this signal has ended, by the shells' convention; None if none came."""
    return None if received is None else 128 + received


def _interrupt(number: int, frame: FrameType | None) -> None:
    global received, _pending
    if received is None or number == signal.SIGINT:
        received = received or signal.Signals(number)
        if _deferring:
            _pending = True
        else:
            raise KeyboardInterrupt(received.name)
