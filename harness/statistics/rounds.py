"""The time of a case that several records measured: its rounds, each in a process of its own."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from harness.core.record import Timing
from harness.statistics import intervals
from harness.statistics.intervals import Estimate


def over_processes(timings: Sequence[Timing], times: Sequence[Estimate], rng: np.random.Generator) -> list[Estimate]:
    """The time of each record of one case: that over all processes, where there are several, instead of its own.

    Times that other processes disturbed keep their own where the case has one that was not disturbed. Several records
    of one process count as one, because what differs between processes is equal in them.

    Args:
        timings: one per record of the case.
        times: the time of each within its process, by one and the same clock.
        rng: source of the draws, as in ``intervals.bootstrap_median``.
    """
    undisturbed = [number for number, timing in enumerate(timings) if not timing.disturbed]
    counted = undisturbed or range(len(timings))
    of_process: dict[str | int, list[Estimate]] = {}
    for number in counted:
        of_process.setdefault(timings[number].process or number, []).append(times[number])
    if len(of_process) < 2:
        return list(times)
    medians = [median(time.value for time in own) for own in of_process.values()]
    samples = sum(time.samples for own in of_process.values() for time in own)
    over_all = replace(intervals.between_processes(medians, rng), samples=samples)
    return [over_all if number in counted else own for number, own in enumerate(times)]
