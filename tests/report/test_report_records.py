"""The page of unusual records: none, one, thousands, hostile names, and settings that differ."""

import time
from itertools import islice, product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_page import SCRIPTS, embedded_runs, figures, of, pictures

from harness.core.record import Memory, Record, Status
from harness.core.spec import OperationSpec
from harness.report.comparison import compare
from harness.report.formats import html
from harness.report.model.records_table import report_rows

HOSTILE = "</script><script>alert(1)</script>"
STATUSES: tuple[Status, ...] = get_args(Status)


def series(*records: Record) -> list[str]:
    return [row.series for row in report_rows(synthetic.run(records))]


def test_a_run_without_records_says_so() -> None:
    page = of(synthetic.run([]))
    assert "This run has no records" in page.text
    assert figures(page) == {}


@pytest.mark.parametrize("status", STATUSES)
def test_one_record_of_any_status(status: Status) -> None:
    spec = OperationSpec(attention="yoso", seq_len=64)
    page = of(synthetic.run([synthetic.record(spec, status)]))
    assert f"1 {status}" in page.text
    assert (spec.case_id in page.text) == (status != "ok")


def test_one_timed_record_has_no_interval_and_no_crossover() -> None:
    rng = np.random.default_rng(0)
    one = synthetic.timed(OperationSpec(attention="sdpa", seq_len=64), 1e-3, 1e3, rng, samples=1)
    page = of(synthetic.run([one]))
    assert "At 64 tokens no exact softmax attention was timed more than once and undisturbed" in page.text
    assert "so none is called the fastest; the shortest time is that of sdpa: 1" in page.text
    assert "Crossovers" not in page.text


def test_a_peak_of_zero_bytes_is_in_the_remarks_and_not_drawn() -> None:
    spec = OperationSpec(attention="sdpa", seq_len=64)
    zero = synthetic.record(spec, memory=Memory(peak_bytes=0, input_bytes=0, source="made up"))
    views = pictures(synthetic.run([zero]))["operation"]
    assert views[0]["plots"][1]["data"] == []
    assert spec.case_id in views[0]["plots"][1]["remarks"][0]


def test_settings_that_differ_are_never_in_one_plot() -> None:
    rng = np.random.default_rng(0)
    records = [synthetic.operation("sdpa", n, rng, dtype=d) for n in (256, 512) for d in ("float32", "bfloat16")]
    views = pictures(synthetic.run(records))["operation"]
    assert {v["facets"]["Type"] for v in views} == {"float32", "bfloat16"}
    assert all(len(v["plots"][0]["data"]) == 2 for v in views)  # a line and its band


def test_device_and_wall_time_are_never_in_one_plot() -> None:
    rng = np.random.default_rng(0)
    wall = synthetic.operation("sdpa", 256, rng)
    both = synthetic.operation("softmax", 256, rng)
    assert both.timing is not None
    both.timing.device_seconds = [1e-6] * 15
    assert {row.clock for row in report_rows(synthetic.run([wall, both]))} == {"wall"}
    assert {row.clock for row in report_rows(synthetic.run([both]))} == {"device"}


def test_a_knob_that_differs_splits_a_series_but_one_that_follows_the_length_does_not() -> None:
    rng = np.random.default_rng(0)

    def at(n: int, m: int) -> Record:
        spec = OperationSpec(attention="yoso", seq_len=n, knobs={"num_hash": m})
        return synthetic.timed(spec, 1e-3, 1e3, rng, knobs={"num_hash": m, "hash_code_len": n.bit_length()})

    assert series(at(256, 16), at(512, 16)) == ["yoso", "yoso"]
    assert set(series(at(256, 16), at(512, 16), at(256, 32))) == {"yoso (num_hash=16)", "yoso (num_hash=32)"}


def test_records_with_a_default_knob_stay_one_series() -> None:
    rng = np.random.default_rng(0)

    def at(n: int, tau: int, **knobs: int) -> Record:
        spec = OperationSpec(attention="yoso", seq_len=n, knobs=knobs)
        return synthetic.timed(spec, 1e-3, 1e3, rng, knobs={"hash_code_len": tau})

    labels = series(at(256, 8), at(512, 9), at(512, 4, hash_code_len=4))
    assert sorted(labels) == ["yoso", "yoso", "yoso (hash_code_len=4)"]
    assert set(series(at(256, 8), at(256, 9))) == {"yoso (hash_code_len=8)", "yoso (hash_code_len=9)"}


def test_hostile_names_and_reasons_stay_text() -> None:
    rng = np.random.default_rng(0)
    good = OperationSpec(attention=HOSTILE, seq_len=64)
    bad = OperationSpec(attention=HOSTILE, seq_len=128)
    records = [
        synthetic.timed(good, 1e-3, 1e3, rng, kernel=HOSTILE),
        synthetic.record(bad, "crashed", reasons=[HOSTILE, "<img src=x onerror=alert(1)>"]),
    ]
    run = synthetic.run(records, command=HOSTILE, commit=HOSTILE, profile=HOSTILE, machine={HOSTILE: HOSTILE})
    page = of(run)
    assert page.tags.count("script") == len(SCRIPTS)
    assert "img" not in page.tags
    assert embedded_runs(page) == [run]
    drawn = [trace for view in pictures(run)["operation"] for plot in view["plots"] for trace in plot["data"]]
    assert drawn
    assert not any(
        "<script" in str(trace.get("hovertext", "")) or "<script" in str(trace.get("name", "")) for trace in drawn
    )


_names = st.one_of(
    st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=20),
    st.sampled_from([HOSTILE, "<b>x</b>", "{{ 7*7 }}", "\u202eevil", "注意力 🔥", "a\u2028b", "&<!--"]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(_names, st.integers(1, 10**6), st.sampled_from(STATUSES), st.floats(1e-9, 1e5)), max_size=8))
def test_any_records_give_a_complete_page(cases: list[tuple[str, int, Status, float]]) -> None:
    rng = np.random.default_rng(0)
    records = []
    for name, length, status, seconds in cases:
        spec = OperationSpec(attention=name, seq_len=length)
        records.append(synthetic.timed(spec, seconds, 10, rng) if status == "ok" else synthetic.record(spec, status))
    run = synthetic.run(records)
    page = of(run)
    assert page.tags.count("script") == len(SCRIPTS)
    assert embedded_runs(page) == [run]
    assert bool(pictures(run)) == bool(records)


@pytest.mark.parametrize(("cases", "megabytes"), [(2_000, 6), (10_000, 20)])
def test_a_page_of_many_cases_is_small_and_written_quickly(tmp_path: Path, cases: int, megabytes: int) -> None:
    rng = np.random.default_rng(0)
    shapes = product(range(1, 101), (1, 2, 4, 8), [2**e for e in range(7, 21)], synthetic.COSTS)
    records = []
    for batch, heads, n, name in islice(shapes, cases):
        spec = OperationSpec(attention=name, seq_len=n, batch=batch, heads=heads)
        scale, power, peak, grows = synthetic.COSTS[name]
        records.append(synthetic.timed(spec, scale * n**power, peak * n**grows, rng, samples=20))
    assert len(records) == cases
    begin = time.process_time()  # CPU time, so that other processes do not count
    path = html.write(compare([synthetic.run(records)]), tmp_path / "report.html")
    assert time.process_time() - begin < 15
    assert path.stat().st_size < megabytes * 1_000_000


@pytest.mark.parametrize(
    ("attention", "declared", "exact"),
    [("flash_attn", True, True), ("sdpa", False, False), ("sdpa", None, True), ("yoso", None, False)],
)
def test_exact_softmax_comes_from_the_record_and_by_name_for_older_records(
    attention: str, declared: bool | None, exact: bool
) -> None:
    record = synthetic.record(OperationSpec(attention=attention, seq_len=64), exact_softmax=declared)
    (row,) = report_rows(synthetic.run([record]))
    assert row.exact is exact
