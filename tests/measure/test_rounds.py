"""Intervals between the processes that measured a case, and within the one that did."""

import numpy as np
import pytest
import synthetic
from report_page import headline_of

from harness.core.record import Memory, Record, Timing
from harness.core.spec import OperationSpec
from harness.pytest_plugin import terminal
from harness.report.model.records_table import report_rows
from harness.statistics import intervals
from harness.statistics.rounds import over_processes

BETWEEN, WITHIN = 0.05, 0.005
"""Relative spread of the medians of processes, and of the samples of one: as two names of one kernel had."""


def timing(median: float, process: str | None = None, disturbed: bool = False) -> Timing:
    wall = [median * (1 + share) for share in (-0.01, 0.0, 0.01)]
    return Timing(wall_seconds=wall, warmup_calls=1, threads=2, process=process, disturbed=disturbed)


def joined(*timings: Timing) -> list[intervals.Estimate]:
    rng = np.random.default_rng(0)
    return over_processes(timings, [intervals.bootstrap_median(each.wall_seconds, rng) for each in timings], rng)


def simulated(rng: np.random.Generator, processes: int) -> intervals.Estimate:
    """The time of a call of one second, measured in so many processes."""
    medians = np.exp(BETWEEN * rng.standard_normal(processes))
    return intervals.between_processes((medians * np.exp(WITHIN * rng.standard_normal(processes))).tolist(), rng)


@pytest.mark.parametrize("processes", [2, 3, 8])
def test_the_interval_between_processes_covers_the_truth_at_its_nominal_level(processes: int) -> None:
    rng = np.random.default_rng(5)
    estimates = [simulated(rng, processes) for _ in range(400)]
    assert 0.92 < np.mean([each.low <= 1 <= each.high for each in estimates]) < 0.98  # type: ignore[operator]
    assert all(each.processes == processes for each in estimates)


def test_two_names_of_one_kernel_are_told_apart_within_one_process_and_not_between_several() -> None:
    rng = np.random.default_rng(6)

    def one_process() -> intervals.Estimate:
        samples = np.exp(BETWEEN * rng.standard_normal() + WITHIN * rng.standard_normal(15))
        return intervals.bootstrap_median(samples.tolist(), rng)

    def share_of_verdicts(ratios: list[intervals.Estimate]) -> float:
        return float(np.mean([not each.low <= 1 <= each.high for each in ratios]))  # type: ignore[operator]

    assert share_of_verdicts([intervals.ratio(one_process(), one_process()) for _ in range(200)]) > 0.5
    between = [intervals.ratio(simulated(rng, 4), simulated(rng, 4)) for _ in range(400)]
    assert share_of_verdicts(between) < 0.06
    assert {each.processes for each in between} == {4}


def test_a_draw_is_a_time_however_far_two_processes_are_apart() -> None:
    estimate = intervals.between_processes([1e-6, 10.0], np.random.default_rng(0))
    assert np.isfinite(estimate.draws).all()
    assert (estimate.draws > 0).all()
    assert estimate.low is not None
    assert 0 < estimate.low < estimate.value < estimate.high < np.inf  # type: ignore[operator]
    with pytest.raises(ValueError, match="at least two processes, got 1"):
        intervals.between_processes([1.0], np.random.default_rng(0))


def test_records_of_several_processes_have_one_time() -> None:
    first, second = joined(timing(1.0, "a"), timing(1.1, "b"))
    assert first is second
    assert first.value == pytest.approx(np.sqrt(1.1))
    assert (first.processes, first.samples) == (2, 6)


def test_records_of_one_process_stay_as_they_are() -> None:
    assert [each.processes for each in joined(timing(1.0, "a"), timing(1.1, "a"))] == [1, 1]
    (alone,) = joined(timing(1.0, "a"))
    assert alone.processes == 1
    three = joined(timing(1.0, "a"), timing(1.2, "a"), timing(1.1, "b"))
    assert {each.processes for each in three} == {2}
    assert three[0].value == pytest.approx(1.1)


def test_records_that_do_not_name_their_process_are_of_several() -> None:
    assert [each.processes for each in joined(timing(1.0), timing(1.1))] == [2, 2]


def test_a_disturbed_record_does_not_count_beside_undisturbed_ones() -> None:
    first, disturbed, third = joined(timing(1.0, "a"), timing(9.0, "b", disturbed=True), timing(1.1, "c"))
    assert first is third
    assert first.value == pytest.approx(np.sqrt(1.1))
    assert (disturbed.value, disturbed.processes) == (9.0, 1)
    assert {each.processes for each in joined(timing(1.0, "a", True), timing(2.0, "b", True))} == {2}


def record(length: int, median: float, process: str) -> Record:
    memory = Memory(peak_bytes=2**20, input_bytes=0, source="made up")
    spec = OperationSpec(attention="sdpa", seq_len=length)
    return synthetic.record(spec, timing=timing(median, process), memory=memory, exact_softmax=True)


ONCE = [record(128, 1e-3, "a")]
TWICE = [*ONCE, record(128, 1.1e-3, "b")]


def test_the_report_says_what_its_intervals_are_between() -> None:
    def said(records: list[Record]) -> str:
        return str(headline_of(synthetic.run(records))[-1])

    assert said(ONCE).endswith("Square brackets hold 95% intervals within one process.")
    assert said(TWICE).endswith("Square brackets hold 95% intervals between 2 processes.")
    mixed = said([*TWICE, record(256, 1e-3, "a")])
    assert mixed.endswith("between 2 processes, or within one where a case was measured in one only.")
    rows = report_rows(synthetic.run(TWICE))
    assert [row.time and row.time.processes for row in rows] == [2, 2]
    other_runs = report_rows(synthetic.run(ONCE), synthetic.run(TWICE[1:]))
    assert [row.time and row.time.processes for row in other_runs] == [1, 1]


def test_the_terminal_says_what_its_times_are() -> None:
    def said(records: list[Record]) -> tuple[str, str]:
        """The row of the attention, and the line about the times."""
        lines = terminal.tables(records)
        row, *_, scope = (line for line in lines if line.startswith(("sdpa", "times")))
        return row, scope

    row, scope = said(ONCE)
    assert "1.00 ms" in row
    assert scope == "times are medians within one process: how much the next process would differ was not measured"
    row, scope = said(TWICE)
    assert "1.05 ms [572 µs, 1.92 ms]" in row
    assert scope == "times with brackets have the 95% interval between 2 processes"
    _, scope = said([*TWICE, record(256, 1e-3, "a")])
    assert scope.startswith(
        "times with brackets have the 95% interval between 2 processes; other times are medians within"
    )


def test_the_terminal_compares_no_disturbed_time() -> None:
    def of(name: str, median: float, disturbed: bool) -> Record:
        of_name = OperationSpec(attention=name, seq_len=128)
        return synthetic.record(of_name, timing=timing(median, None, disturbed), exact_softmax=True)

    (sentence,) = terminal.result_sentences([of("sdpa", 1e-3, True), of("sdpa_flash", 2e-3, True)], ())
    assert sentence.startswith("shortest time: sdpa, forward of 128 tokens: 1.00 ms (disturbed)")
    assert sentence.endswith("; no comparison, because other processes disturbed a time")
    (sentence,) = terminal.result_sentences([of("sdpa", 1e-3, True), of("sdpa_flash", 2e-3, False)], ())
    assert sentence.startswith("fastest: sdpa_flash, forward of 128 tokens: 2.00 ms, ")
    assert sentence.endswith("; it is the fastest exact attention there")
    (sentence,) = terminal.result_sentences([of("sdpa", 1e-3, True), of("sdpa_flash", 2e-3, False)], ("sdpa",))
    assert sentence.endswith("; no comparison, because other processes disturbed a time")
