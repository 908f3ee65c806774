"""Who uses the machine's cores: counters of the kernel, read before a case and after it and never while it is measured.

The counters add up by themselves, so that nothing has to run beside a case to know who used the cores meanwhile. What
the run's own processes used is subtracted from what all did. The two readings of a case take 6 milliseconds of CPU time
beside 130 processes, nearly all of it to find those that belong to the run, and no case's process has work then. Over
six seconds what all processes had used differed by at most 2% from what the cores had worked (Linux 6.18).
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import psutil

from harness.core.record import MachineUse

CORE_FOLDERS = Path("/sys/devices/system/cpu")
"""Where Linux has a folder for each core."""
TICKS_SECONDS = 0.5
"""By so much the machine's counters may be behind those of the run's processes; both count in ticks of 10 ms."""


@dataclass(frozen=True)
class ProcessUse:
    """CPU seconds of one process and of those of its children that have ended and that it has waited for."""

    parent: int
    seconds: float


@dataclass(frozen=True)
class Reading:
    """All counters at one moment.

    Attributes:
        at: the clock, in seconds.
        cores: how many cores the run may use.
        busy: CPU seconds of everything on these cores.
        stolen: seconds that the host of a virtual machine took from these cores; None where it is not counted.
        processes: what each process of the run used, by process ID and start time. The first is this process.
        throttles: how often these cores were too hot; None where it is not counted.
    """

    at: float
    cores: int
    busy: float
    stolen: float | None
    processes: dict[tuple[int, float], ProcessUse]
    throttles: int | None

    @classmethod
    def now(cls) -> "Reading":
        """Read them."""
        numbers, times = _usable_cores()
        return cls(
            at=monotonic(),
            cores=len(times),
            busy=sum(map(_busy, times)),
            stolen=sum(core.steal for core in times) if hasattr(times[0], "steal") else None,
            processes=_processes_of_this_run(),
            throttles=thermal_throttles(CORE_FOLDERS, numbers),
        )


def used_between(before: Reading, after: Reading, load: float) -> MachineUse:
    """What the run and others used between two readings.

    Args:
        before: the earlier reading.
        after: the later one.
        load: the load average at that time.
    """
    own = own_seconds(before, after)
    busy = after.busy - before.busy
    # A system that does not even count the run's own time, as some sandboxes, counts no other's.
    is_counted = busy + TICKS_SECONDS >= own / 2
    return MachineUse(
        elapsed_seconds=max(after.at - before.at, 1e-6),
        cores=after.cores,
        own_cpu_seconds=own,
        foreign_cpu_seconds=max(busy - own, 0.0) if is_counted else None,
        stolen_cpu_seconds=None
        if after.stolen is None or before.stolen is None
        else max(after.stolen - before.stolen, 0),
        load=load,
        thermal_throttles=(
            None if after.throttles is None or before.throttles is None else max(after.throttles - before.throttles, 0)
        ),
    )


def own_seconds(before: Reading, after: Reading) -> float:
    """CPU seconds of the run's processes, also of those that have ended.

    The time of a process that has ended is in its parent's counter. Where the parent ended too, as when an attention's
    process is killed together with the compilers that it started, it is in nobody's, and would be missing: it is added.
    It may then count twice, if the parent had still waited for it, so that a run is rather called calm.
    """
    root = next(iter(after.processes))[0]
    living = {process for process, _ in after.processes}
    orphans = [
        used.seconds
        for process, used in before.processes.items()
        if process not in after.processes and used.parent != root and used.parent not in living
        and process[0] != root
    ]  # fmt: skip
    total = sum(used.seconds for used in after.processes.values()) + sum(orphans)
    return max(total - sum(used.seconds for used in before.processes.values()), 0.0)


def _usable_cores() -> tuple[list[int], list[Any]]:
    """The numbers of the cores that this process may use, and psutil's times of each.

    Where the system does not tell which these are, it may use all.
    """
    times = psutil.cpu_times(percpu=True)
    numbers = [*range(len(times))]
    if hasattr(os, "sched_getaffinity"):  # on Linux
        allowed = sorted(os.sched_getaffinity(0))
        if allowed[-1] < len(times):  # the list has no gap for a core that is switched off
            numbers = allowed
    return numbers, [times[number] for number in numbers]


def _busy(core: Any) -> float:
    """Seconds in which a core worked, from psutil's times of it; those of virtual machines are in ``user`` too."""
    return sum(getattr(core, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))


def _processes_of_this_run() -> dict[tuple[int, float], ProcessUse]:
    this = psutil.Process()
    found = {}
    for process in (this, *this.children(recursive=True)):
        with suppress(psutil.Error):  # it has just ended
            times = process.cpu_times()
            seconds = times.user + times.system + times.children_user + times.children_system
            found[process.pid, process.create_time()] = ProcessUse(process.ppid(), seconds)
    return found


def thermal_throttles(folders: Path, cores: Iterable[int]) -> int | None:
    """How often these cores were slowed down because of heat since the machine started; None where nobody counts it.

    Args:
        folders: the folder with a folder for each core, ``CORE_FOLDERS``.
        cores: their numbers.
    """
    counts = []
    for core in cores:
        with suppress(OSError, ValueError):  # other processors, and virtual machines, have no such file
            counts.append(int((folders / f"cpu{core}" / "thermal_throttle" / "core_throttle_count").read_text()))
    return sum(counts) if counts else None
