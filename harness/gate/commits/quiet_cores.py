"""Cores that nobody else uses. A kernel one of whose threads shares its core with another process waits at every
barrier for a whole time slice, and its time says nothing about the commit."""

import os

import psutil

BUSY_PERCENT = 25.0
LOOK_SECONDS = 1.0


def stay_on_them() -> list[int] | None:
    """Bind this process, and what it starts, to the cores that are free now; their number becomes OMP_NUM_THREADS.

    Returns:
        The cores: all of those that it may use where none is free; None where the system knows no such binding.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    busy = psutil.cpu_percent(LOOK_SECONDS, percpu=True)
    cores = [core for core in allowed if busy[core] < BUSY_PERCENT] or allowed
    os.sched_setaffinity(0, cores)
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(len(cores))
    return cores
