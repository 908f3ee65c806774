"""Whether threads or child processes are at work while this thread sleeps: an attention may leave some running."""

import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

IDLE_SECONDS = 0.02
"""How long the calling thread sleeps while the work of the others is measured."""
COARSE_IDLE_SECONDS = 0.1
"""The same on systems that count processor time in steps of 10 ms only."""
IDLE_SHARE = 0.5
"""Threads that want this share of one core while the caller sleeps are at work."""
THREADS_FINISH_SECONDS = 0.25
"""Threads may finish for this long: those of OpenMP spin for some milliseconds after a parallel region."""
CHILDREN_FINISH_SECONDS = 5.0
"""Child processes may finish for this long: the compilers that torch.compile starts take seconds to import torch."""

# The functions as they are before a plugin is loaded, which may replace those of the module ``time``.
_perf_counter, _process_time, _sleep = time.perf_counter, time.process_time, time.sleep
_TASKS = "/proc/self/task"


def still_working() -> list[str]:
    """A sentence for threads, and one for child processes, that do not stop working while this thread sleeps."""
    seconds = IDLE_SECONDS if os.path.exists(f"{_TASKS}/{threading.get_native_id()}/schedstat") else COARSE_IDLE_SECONDS
    began = _perf_counter()
    while True:
        threads, children, start = _work_of_threads(), _work_of_children(), _perf_counter()
        _sleep(seconds)
        elapsed = _perf_counter() - start
        threads_work = _added_work(threads, _work_of_threads()) >= IDLE_SHARE * elapsed
        children_work = _added_work(children, _work_of_children()) >= IDLE_SHARE * elapsed
        waited = _perf_counter() - began
        threads_may_finish = threads_work and waited < THREADS_FINISH_SECONDS
        children_may_finish = children_work and waited < CHILDREN_FINISH_SECONDS
        if not threads_may_finish and not children_may_finish:
            break
    working = [name for name, work in (("threads", threads_work), ("child processes", children_work)) if work]
    return [f"its {name} were still at work when the case had ended" for name in working]


def _added_work(before: Mapping[int, float], after: Mapping[int, float]) -> float:
    """Seconds of work between the two, of what is in both."""
    return sum(max(after[key] - seconds, 0.0) for key, seconds in before.items() if key in after)


def _work_of_threads() -> dict[int, float]:
    """Seconds of work of each thread of this process but the calling one, by the thread's id."""
    own = threading.get_native_id()
    threads = {thread: _work(f"{_TASKS}/{thread}/schedstat") for thread in thread_ids() if thread != own}
    known = {thread: seconds for thread, seconds in threads.items() if seconds is not None}
    return known if known or not threads else {0: _process_time()}


def _work_of_children() -> dict[int, float]:
    """Seconds of work of each running descendant, by the process's id."""
    children = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error, OSError):  # the process has ended
            tasks = f"/proc/{child.pid}/task"
            parts = [_work(f"{tasks}/{thread}/schedstat") for thread in os.listdir(tasks)]
            known = [seconds for seconds in parts if seconds is not None]
            times = child.cpu_times()
            children[child.pid] = sum(known) if known else times.user + times.system
    return children


def _work(path: str) -> float | None:
    """Seconds in which a thread ran or waited for a core: on a busy machine a thread that works mostly waits."""
    try:
        ran, waited, _ = Path(path).read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return (int(ran) + int(waited)) / 1e9


def thread_ids() -> list[int]:
    """The system's ids of the threads of this process; empty where the system does not list them."""
    return [int(name) for name in os.listdir(_TASKS)] if os.path.isdir(_TASKS) else []
