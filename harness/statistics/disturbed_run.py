"""Whether a run was disturbed, from when to when, and by what: one judgement over all its records.

``harness.statistics.disturbance`` judges the samples of one case by what its own process lost. It says nothing about
processes on the other cores, which share caches, memory and power with the case; about the run's share of a virtual
machine's host; or about clocks that change from one case to the next, by which equal attentions differ. This module
does, from what each record has about the machine. It counts the disturbed cases too.

Counters of CPU time have ticks of a hundredth of a second, and a case may take only a few. So consecutive cases are
judged together, until they took ``STRETCH_SECONDS``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import mean, median
from typing import Literal

from harness.core.record import Record, Run

Kind = Literal[
    "foreign processes", "virtual machine's host", "load", "heat", "clock", "GPU throttled", "GPU processes", "samples"
]
STRETCH_SECONDS = 2.0
"""Cases are judged together until they took so long: ticks are then at most a few percent of a core's time."""
EARLIEST = datetime.min.replace(tzinfo=UTC)
"""Where a record is sorted that has no readable time."""
SHARE_OF_CORES = 0.1
"""Others that used more than this share of the cores disturbed the cases meanwhile. An idle machine's own services used
0.5% of two cores; one busy process on two cores uses 50%."""
LEAST_SECONDS = 0.2
"""CPU seconds of others that are more than inaccurate counters, in runs that are shorter than ``STRETCH_SECONDS``."""
SHARE_OF_RUN = 0.01
"""The run is called disturbed where such stretches are more than this share of it: a service may wake once an hour."""
LOAD_PER_CORE = 1.5
"""A higher load average has others in it, because a run has at most one busy thread for each core; used only where CPU
time of others is not known, because the average still contains what ended a minute ago."""
CLOCK_CHANGE = 0.1
"""A case whose clock was further than this share from the run's median had another clock."""
CLOCK_CASES = 0.05
"""So many of the timed cases, and at least two, must have had another clock: one reading may meet a pause."""
THROTTLED = ("HwSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown", "SwThermalSlowdown")
"""Limits that a GPU does not have in normal work. Its power cap is normal: where it lowers the clock, the clock shows
it."""


@dataclass(frozen=True)
class Cause:
    """One kind of disturbance.

    Attributes:
        kind: what it was.
        words: what was observed, as part of a sentence.
        began, ended: the start of the first case and the end of the last one that it disturbed, UTC; None where no
            record has a readable time.
        seconds: how long these cases took, with those that were judged together with them.
        cases: how many these are.
        records: their records.
    """

    kind: Kind
    words: str
    began: datetime | None
    ended: datetime | None
    seconds: float
    cases: int
    records: tuple[Record, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class RunDisturbance:
    """What disturbed a run.

    Attributes:
        causes: at least one.
        began, ended: from the first to the last disturbed case, UTC; None as in ``Cause``.
        seconds: how long the disturbed cases took together.
        run_seconds: how long all cases took.
    """

    causes: tuple[Cause, ...]
    began: datetime | None
    ended: datetime | None
    seconds: float
    run_seconds: float

    @property
    def sentence(self) -> str:
        """From when to when, by what, and what a reader should do."""
        return (
            f"This run was {self.what}. "
            "Its times may be too long, and unequally so: repeat it on an idle machine before comparing them."
        )

    @property
    def what(self) -> str:
        """From when to when, and by what, as the end of a clause: ``disturbed from ...``."""
        when = ""
        if self.began is not None and self.ended is not None:
            end_format = "%H:%M:%S" if self.began.date() == self.ended.date() else "%Y-%m-%d %H:%M:%S"
            when = f" from {self.began:%Y-%m-%d %H:%M:%S} to {self.ended.strftime(end_format)} UTC,"
        how_long = f"{_seconds(self.seconds)} of the {_seconds(self.run_seconds)} that its cases took"
        return f"disturbed{when} for {how_long}: {'; '.join(cause.words for cause in self.causes)}"

    def as_json(self) -> dict[str, object]:
        """The same as plain data."""
        return {
            "sentence": self.sentence,
            "began": _text(self.began),
            "ended": _text(self.ended),
            "seconds": self.seconds,
            "run_seconds": self.run_seconds,
            "causes": [
                {
                    "kind": cause.kind,
                    "words": cause.words,
                    "began": _text(cause.began),
                    "ended": _text(cause.ended),
                    "seconds": cause.seconds,
                    "cases": cause.cases,
                }
                for cause in self.causes
            ],
        }


def judge(records: Iterable[Record], cores: int | None = None) -> RunDisturbance | None:
    """What disturbed the run of these records; None where nothing did, or nothing is known.

    Args:
        records: in any order.
        cores: the machine's logical cores, for records that do not have their number.
    """
    begun = sorted(
        (record for record in records if not record.not_begun), key=lambda record: _began(record) or EARLIEST
    )
    stretches = _stretches(begun)
    judged = [
        _foreign_processes(stretches),
        _host(stretches),
        _load(begun, cores),
        _heat(stretches),
        _cores_clock(begun),
        _gpu_clock(begun),
        _gpu_throttled(begun),
        _gpu_processes(begun),
        _samples(begun),
    ]
    found = [cause for cause in judged if cause is not None]
    if not found:
        return None
    disturbed = {id(record): record for _, those in found for record in those}
    causes = tuple(cause for cause, _ in found)
    return RunDisturbance(
        causes=causes,
        began=min((cause.began for cause in causes if cause.began), default=None),
        ended=max((cause.ended for cause in causes if cause.ended), default=None),
        seconds=sum(record.took_seconds for record in disturbed.values()),
        run_seconds=sum(record.took_seconds for record in begun),
    )


def judge_run(run: Run) -> RunDisturbance | None:
    """What disturbed a run, judged from its records, because a log and an older run do not have the sentence."""
    cores = run.machine.get("logical_cores")
    return judge(run.records, cores if isinstance(cores, int) else None)


Found = tuple[Cause, list[Record]]
"""A cause, and the records of the cases that it disturbed."""


@dataclass(frozen=True)
class _Stretch:
    """Consecutive cases that are judged together."""

    records: list[Record]

    @property
    def seconds(self) -> float:
        return sum(record.machine_use.elapsed_seconds for record in self.records if record.machine_use)

    @property
    def cores(self) -> int:
        return max(record.machine_use.cores for record in self.records if record.machine_use)

    @property
    def foreign(self) -> float:
        """CPU seconds of foreign processes."""
        return sum(record.machine_use.foreign_cpu_seconds or 0.0 for record in self.records if record.machine_use)

    @property
    def stolen(self) -> float:
        """Seconds of the virtual machine's cores that its host used."""
        return sum(record.machine_use.stolen_cpu_seconds or 0.0 for record in self.records if record.machine_use)

    @property
    def throttles(self) -> int:
        """How often a core was too hot."""
        return sum(record.machine_use.thermal_throttles or 0 for record in self.records if record.machine_use)

    def is_share(self, cpu_seconds: float) -> bool:
        """Whether these CPU seconds are enough of the cores' time to disturb."""
        return cpu_seconds > SHARE_OF_CORES * self.cores * self.seconds and cpu_seconds > LEAST_SECONDS


def _stretches(records: Sequence[Record]) -> list[_Stretch]:
    """Those with ``machine_use``, together until they took ``STRETCH_SECONDS``; what is left joins those before."""
    groups: list[list[Record]] = []
    seconds = STRETCH_SECONDS
    for record in records:
        if record.machine_use is None:
            continue
        if seconds >= STRETCH_SECONDS:
            groups.append([])
            seconds = 0.0
        groups[-1].append(record)
        seconds += record.machine_use.elapsed_seconds
    if len(groups) > 1 and seconds < STRETCH_SECONDS:
        last = groups.pop()
        groups[-1] += last
    return [_Stretch(group) for group in groups]


def _foreign_processes(stretches: Sequence[_Stretch]) -> Found | None:
    disturbed = [stretch for stretch in stretches if stretch.is_share(stretch.foreign)]
    if not _is_enough(disturbed, stretches):
        return None
    most = max(disturbed, key=lambda stretch: stretch.foreign / stretch.seconds)
    load = max(use.load for stretch in disturbed for record in stretch.records if (use := record.machine_use))
    used = f"{_number(most.foreign / most.seconds)} of the {_cores(most.cores)}"
    words = f"processes that do not belong to the run used up to {used} (load average up to {_number(load)})"
    return _cause("foreign processes", words, _records(disturbed))


def _host(stretches: Sequence[_Stretch]) -> Found | None:
    disturbed = [stretch for stretch in stretches if stretch.is_share(stretch.stolen)]
    if not _is_enough(disturbed, stretches):
        return None
    most = max(disturbed, key=lambda stretch: stretch.stolen / stretch.seconds)
    taken = f"{_number(most.stolen / most.seconds)} of its {_cores(most.cores)}"
    words = f"the host of this virtual machine took up to {taken} for others"
    return _cause("virtual machine's host", words, _records(disturbed))


def _load(records: Sequence[Record], machine_cores: int | None) -> Found | None:
    """From the load average, for cases whose record does not have the CPU time of others."""
    loads = []
    for record in records:
        use = record.machine_use
        if use is not None and use.foreign_cpu_seconds is None:
            loads.append((use.load, use.cores, record))
        elif use is None and record.timing is not None and record.timing.load_before is not None and machine_cores:
            loads.append((record.timing.load_before, machine_cores, record))
    high = [(load, cores, record) for load, cores, record in loads if load > LOAD_PER_CORE * cores]
    if not high:
        return None
    load, cores, _ = max(high, key=lambda one: one[0] / one[1])
    return _cause(
        "load", f"the load average was up to {_number(load)} on {_cores(cores)}", [record for *_, record in high]
    )


def _heat(stretches: Sequence[_Stretch]) -> Found | None:
    disturbed = [stretch for stretch in stretches if stretch.throttles]
    if not disturbed:
        return None
    count = sum(stretch.throttles for stretch in disturbed)
    return _cause("heat", f"cores were slowed down {_times(count)} because they were too hot", _records(disturbed))


def _cores_clock(records: Sequence[Record]) -> Found | None:
    """The mean of as many of the fastest cores as the case had threads: the others may be idle and slow."""
    clocks = []
    for record in records:
        timing = record.timing
        if timing is not None and timing.clocks is not None and timing.clocks.core_mhz:
            fastest = sorted(timing.clocks.core_mhz, reverse=True)[: max(timing.threads or 1, 1)]
            clocks.append((mean(fastest), record))
    return _clock("clock of the cores", clocks)


def _gpu_clock(records: Sequence[Record]) -> Found | None:
    return _clock(
        "clock of the GPU",
        [
            (timing.clocks.sm_mhz, record)
            for record in records
            if (timing := record.timing) is not None and timing.clocks is not None and timing.clocks.sm_mhz
        ],
    )


def _clock(name: str, clocks: Sequence[tuple[float, Record]]) -> Found | None:
    if not clocks:
        return None
    middle = median(mhz for mhz, _ in clocks)
    other = [record for mhz, record in clocks if abs(mhz - middle) > CLOCK_CHANGE * middle]
    if len(other) < max(2, CLOCK_CASES * len(clocks)):
        return None
    low, high = (extreme(mhz for mhz, _ in clocks) for extreme in (min, max))
    words = (
        f"the {name} changed between {low:.0f} and {high:.0f} MHz, and was more than {CLOCK_CHANGE:.0%} away from "
        f"{middle:.0f} MHz, its median, in {len(other)} of {_cases(len(clocks))}"
    )
    return _cause("clock", words, other)


def _gpu_throttled(records: Sequence[Record]) -> Found | None:
    limited: list[tuple[set[str], Record]] = []
    known = 0
    for record in records:
        timing = record.timing
        if timing is not None and timing.clocks is not None and timing.clocks.gpu_limits is not None:
            known += 1
            if limits := {*timing.clocks.gpu_limits} & {*THROTTLED}:
                limited.append((limits, record))
    if not limited:
        return None
    names = sorted(set().union(*(limits for limits, _ in limited)))
    words = f"the GPU was throttled in {len(limited)} of {_cases(known)} ({', '.join(names)})"
    return _cause("GPU throttled", words, [record for _, record in limited])


def _gpu_processes(records: Sequence[Record]) -> Found | None:
    timed = [record for record in records if record.timing is not None]
    shared = [record for record in timed if record.timing is not None and record.timing.foreign_gpu_processes]
    if not shared:
        return None
    words = f"other processes were on the GPU in {len(shared)} of {_cases(len(timed))}"
    return _cause("GPU processes", words, shared)


def _samples(records: Sequence[Record]) -> Found | None:
    timed = [record for record in records if record.timing is not None]
    disturbed = [record for record in timed if record.timing is not None and record.timing.disturbed]
    if not disturbed:
        return None
    words = f"the samples of {len(disturbed)} of {_cases(len(timed))} lost their cores to other processes"
    return _cause("samples", words, disturbed)


def _is_enough(disturbed: Sequence[_Stretch], stretches: Sequence[_Stretch]) -> bool:
    seconds = sum(stretch.seconds for stretch in disturbed)
    return seconds > SHARE_OF_RUN * sum(stretch.seconds for stretch in stretches)


def _cause(kind: Kind, words: str, records: list[Record]) -> Found:
    return (
        Cause(
            kind=kind,
            words=words,
            began=min(filter(None, map(_began, records)), default=None),
            ended=max(filter(None, map(_ended, records)), default=None),
            seconds=sum(record.took_seconds for record in records),
            cases=len(records),
            records=tuple(records),
        ),
        records,
    )


def _records(stretches: Sequence[_Stretch]) -> list[Record]:
    return [record for stretch in stretches for record in stretch.records]


def _began(record: Record) -> datetime | None:
    """When a case began; None where its record has no readable time, as in a damaged file."""
    try:
        began = datetime.fromisoformat(record.started)
        return began.replace(tzinfo=UTC) if began.tzinfo is None else began.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _ended(record: Record) -> datetime | None:
    began = _began(record)
    try:
        return began and began + timedelta(seconds=record.took_seconds)
    except OverflowError:
        return began


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat(timespec="seconds")


def _number(value: float) -> str:
    return f"{value:.2g}" if value < 10 else f"{value:,.0f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _cores(count: int) -> str:
    return f"{count} core{'s' if count > 1 else ''}"


def _cases(count: int) -> str:
    return f"{count} timed case{'s' if count > 1 else ''}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
