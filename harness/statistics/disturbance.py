"""Whether other processes took the cores while a call was timed on a CPU.

Wall time alone does not tell: a call that needs 1.6 ms of CPU time took 112 ms beside busy neighbours, in every sample,
so that its interval was narrow. The kernel counts how often a process was taken off a core while it could have gone on
(involuntary context switches) and how much CPU time it had, and these tell it apart from a call that waits or sleeps.

The switches are counted per second of CPU time, not of wall time, because a process beside more neighbours runs more
rarely: beside one to four of them it had 140 to 250 switches per second of CPU time, the inverse of the scheduler's
time slice, but only 50 to 190 per second of wall time. Undisturbed it had none to 20, from kernel threads that run for
some microseconds. These numbers are from calls of 1 to 1,100 ms on one and two threads (Linux 6.18, two cores).
"""

from collections.abc import Sequence
from typing import NamedTuple

from harness.core.record import Timing

SWITCHES_PER_CPU_SECOND = 50.0
"""A sample with more involuntary switches is disturbed, if it also lacked CPU time."""
FULL_SHARE = 0.9
"""A sample whose threads had at least this share of its wall time on a core was not disturbed."""
DISTURBED_SAMPLES = 1 / 3
"""A timing with a larger share of disturbed samples is disturbed. These are its longest samples, so up to this share
its median is at most the upper quartile of the undisturbed ones."""
DISTURBED_TIME = 1 / 2
"""So is a timing whose disturbed samples took a larger share of its wall time."""
SHARE_OF_SAMPLING = 2 / 3
"""So is a timing during which, with the preparation of its samples, the threads had a smaller share of their cores, and
were interrupted as often as in a disturbed sample. A call that is much shorter than a time slice is mostly interrupted
between its samples, but beside busy neighbours these take longer, too: a call of 1.1 ms took 1.4 ms in the median,
because the neighbours used the same caches."""


class Sampling(NamedTuple):
    """What the process used from the first sample to the last, with the preparation of each."""

    wall_seconds: float
    cpu_seconds: float
    involuntary_switches: int


def judged(timing: Timing, sampling: Sampling | None = None) -> Timing:
    """``timing`` with ``disturbed`` and ``disturbance``; unchanged where its samples have no CPU time."""
    cpu, switches, threads = timing.cpu_seconds, timing.involuntary_switches, timing.threads
    if cpu is None or switches is None or threads is None:
        return timing
    samples = [
        Sampling(wall * timing.calls_per_sample, used * timing.calls_per_sample, count)
        for wall, used, count in zip(timing.wall_seconds, cpu, switches, strict=True)
    ]
    disturbed = [sample.wall_seconds for sample in samples if _lost_cores(sample, FULL_SHARE * threads)]
    total = Sampling(*map(sum, zip(*samples, strict=True)))
    cores = f"{threads} core{'s' if threads > 1 else ''}"
    sentence = None
    if len(disturbed) > DISTURBED_SAMPLES * len(samples) or sum(disturbed) > DISTURBED_TIME * total.wall_seconds:
        per_call = total.involuntary_switches / (len(samples) * timing.calls_per_sample)
        sentence = (
            f"the process had {total.cpu_seconds / total.wall_seconds:.2g} of its {cores} on average, and "
            f"{per_call:.2g} involuntary context switches a call; "
            f"{len(disturbed)} of {len(samples)} samples were disturbed"
        )
    elif sampling is not None and _lost_cores(sampling, SHARE_OF_SAMPLING * threads):
        sentence = (
            f"with the preparation of its samples the process had {sampling.cpu_seconds / sampling.wall_seconds:.2g} "
            f"of its {cores} on average, and {sampling.involuntary_switches / len(samples):.2g} involuntary context "
            "switches a sample"
        )
    return timing.model_copy(update={"disturbed": sentence is not None, "disturbance": sentence})


def _lost_cores(used: Sampling, cores: float) -> bool:
    """Whether the process was interrupted often, and had fewer cores than these on average."""
    interrupted = used.involuntary_switches > SWITCHES_PER_CPU_SECOND * used.cpu_seconds
    return interrupted and used.cpu_seconds < cores * used.wall_seconds


def least_disturbed(timings: Sequence[Timing]) -> int:
    """Which of the timings of a case was disturbed least."""
    return min(range(len(timings)), key=lambda number: _strength(timings[number]))


def _strength(timing: Timing) -> float:
    """Wall time for each second of CPU time; 0 for a timing that was not disturbed."""
    return sum(timing.wall_seconds) / max(sum(timing.cpu_seconds or []), 1e-9) if timing.disturbed else 0.0
