"""Whether a timing on a CPU was disturbed by other processes."""

import os
import subprocess
import sys

import pytest
import synthetic
from same_call import SameCall

from harness.cases.prepared import PreparedCase
from harness.core.record import Memory, Timing
from harness.core.spec import Effort, OperationSpec
from harness.measure import other_processes, timing
from harness.pytest_plugin import terminal
from harness.statistics import disturbance


def judged(samples, threads, calls_per_sample=1, sampling=None):
    """The timing of samples (wall seconds, CPU seconds, involuntary switches)."""
    wall, cpu, switches = zip(*samples, strict=True)
    return disturbance.judged(
        Timing(
            wall_seconds=list(wall),
            cpu_seconds=list(cpu),
            involuntary_switches=list(switches),
            warmup_calls=1,
            threads=threads,
            calls_per_sample=calls_per_sample,
        ),
        sampling,
    )


QUIET = [(3.9e-3, 4.0e-3, 0), (3.8e-3, 3.8e-3, 0), (3.8e-3, 3.8e-3, 1), (3.6e-3, 3.6e-3, 0)] * 5
"""Recorded: one thread on an idle core; one switch, to a kernel thread."""
BUSY = [(20.3e-3, 4.4e-3, 1), (20.1e-3, 4.2e-3, 1), (3.8e-3, 3.8e-3, 0), (19.9e-3, 4.0e-3, 1)] * 5
"""Recorded: the same call beside four busy processes on two cores."""
CONTENDED = [(112e-3, 74e-3, 30)] * 3
"""Two threads beside busy processes: a third of two cores, in every sample alike."""
SHORT_AND_BUSY = [(1.1e-3, 1.1e-3, 0)] * 3 + [(17e-3, 1.2e-3, 1)]
"""Much shorter than a time slice: a quarter of the samples is interrupted."""


@pytest.mark.parametrize(
    ("samples", "threads", "calls", "expected"),
    [
        (QUIET, 1, 1, False),
        (BUSY, 1, 1, True),
        (BUSY, 2, 1, True),
        (CONTENDED, 2, 1, True),
        (SHORT_AND_BUSY, 1, 1, True),
        ([(10e-3, 0.1e-3, 0)] * 5, 2, 1, False),  # waits or sleeps
        ([(0.5, 0.5, 5)] * 5, 2, 1, False),  # runs on one of its two threads, with a few kernel threads
        ([(5e-3, 10e-3, 3)] * 5, 2, 1, False),  # interrupted for microseconds: had its cores all the time
        ([*QUIET, (60e-3, 4e-3, 3)], 1, 1, False),  # the median does not depend on one sample
        ([(1e-4, 1e-4, 0)] * 4, 1, 10, False),
        ([(1e-3, 1e-4, 1)] * 4, 1, 10, True),  # per call 0.1 ms of CPU time, per sample ten calls
    ],
)
def test_a_timing_is_disturbed_where_its_samples_lost_their_cores(samples, threads, calls, expected):
    assert judged(samples, threads, calls).disturbed is expected


def test_interruptions_between_short_samples_disturb_a_timing():
    uninterrupted = [(1.4e-3, 1.4e-3, 0)] * 30
    beside_neighbours = disturbance.Sampling(0.25, 0.05, 12)
    assert judged(uninterrupted, 1, sampling=beside_neighbours).disturbance == (
        "with the preparation of its samples the process had 0.2 of its 1 core on average, and 0.4 involuntary context "
        "switches a sample"
    )
    assert not judged(uninterrupted, 1, sampling=disturbance.Sampling(0.06, 0.058, 1)).disturbed
    one_thread_prepares = disturbance.Sampling(0.06, 0.06, 1)
    assert not judged([(0.7e-3, 1.4e-3, 0)] * 30, 2, sampling=one_thread_prepares).disturbed


def test_the_sentence_names_cores_switches_and_samples():
    assert judged(CONTENDED, 2).disturbance == (
        "the process had 0.66 of its 2 cores on average, and 30 involuntary context switches a call; "
        "3 of 3 samples were disturbed"
    )
    assert judged(QUIET, 1).disturbance is None


def test_a_timing_without_cpu_time_is_not_judged():
    old = Timing(wall_seconds=[1.0], warmup_calls=1, threads=2)
    assert disturbance.judged(old) == old
    assert old.disturbed is None


def test_a_sample_on_a_cpu_has_its_cpu_time_and_switches():
    measured = timing.measure(SameCall(lambda: sum(range(100_000))), "cpu", Effort(3, 3, 0.0, 1, 0.0))
    assert len(measured.cpu_seconds) == len(measured.involuntary_switches) == 3
    assert all(0 < cpu < 1 for cpu in measured.cpu_seconds)
    assert measured.load_before >= 0
    assert measured.disturbed is not None
    assert measured.foreign_gpu_processes is None


class _Timed:
    """Stands for ``timing.measure``: returns the given timings in turn."""

    def __init__(self, timings):
        self.left = list(timings)

    def __call__(self, *args):
        return self.left.pop(0)


@pytest.mark.parametrize(
    ("timings", "attempts", "taken", "kept"),
    [
        ([QUIET], 3, 1, 0),
        ([BUSY, QUIET], 3, 2, 1),
        ([BUSY, CONTENDED, BUSY], 3, 3, 1),  # two threads had more of their time
        ([BUSY], 1, 1, 0),  # as in `harness ab`
    ],
)
def test_a_disturbed_case_is_sampled_again_and_the_least_disturbed_timing_counts(
    monkeypatch, timings, attempts, taken, kept
):
    results = [judged(samples, 2 if samples is CONTENDED else 1) for samples in timings]
    measure = _Timed(results)
    monkeypatch.setattr(timing, "measure", measure)
    case = PreparedCase(OperationSpec(attention="sdpa", seq_len=8), None, None, SameCall(None), [], False, {})
    found = case.time(Effort(1, 1, 0.0, 1, 0.0), attempts)
    assert not measure.left
    assert found == results[kept].model_copy(update={"attempts": taken, "input_sets": 1, "inputs_seed": 0})


def test_the_terminal_marks_a_disturbed_time():
    spec = OperationSpec(attention="sdpa", seq_len=128)
    memory = Memory(peak_bytes=2**20, input_bytes=0, source="made up")
    records = [
        synthetic.record(spec, timing=judged(samples, 1), memory=memory)
        for samples in ([(0.02, 0.004, 1)] * 3, [(0.004, 0.004, 0)] * 3)
    ]
    assert [terminal.one_line(record) for record in records] == [
        "20.0 ms (disturbed), 1.00 MiB", "4.00 ms, 1.00 MiB",
    ]  # fmt: skip
    lines = [" ".join(line.split()) for line in terminal.tables(records[:1])]
    assert "sdpa ~20.0 ms unknown 1.00 MiB" in lines
    assert lines[-1] == "~: other processes disturbed the time"


@pytest.mark.alone
def test_a_busy_neighbour_disturbs():
    core = min(os.sched_getaffinity(0))
    before = os.sched_getaffinity(0)
    command = [
        sys.executable,
        "-c",
        f"import os; os.sched_setaffinity(0, [{core}]); print(flush=True)\nwhile True: pass",
    ]
    neighbour = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        neighbour.stdout.readline()  # it is running
        os.sched_setaffinity(0, [core])
        measured = timing.measure(SameCall(lambda: sum(range(500_000))), "cpu", Effort(5, 100, 0.3, 1, 0.0))
    finally:
        os.sched_setaffinity(0, before)
        neighbour.kill()
        neighbour.communicate()
    assert measured.disturbed
    assert "involuntary context switches" in measured.disturbance


def test_foreign_processes_on_a_gpu_are_not_those_of_this_run():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        listed = {os.getpid(), os.getppid(), child.pid}
        assert other_processes.count_foreign(listed) == 0
        assert other_processes.count_foreign(listed | {2**22 + 1, 2**22 + 2}) == 2
        assert other_processes.count_foreign({2**22 + 1}) is None
        assert other_processes.count_foreign(set()) is None
    finally:
        child.communicate(b"\n")
