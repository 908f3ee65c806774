"""The report's page: what it draws, what it must never hide, and that nothing in a record can break it."""

import hashlib
import re
import time
from importlib.resources import files
from itertools import islice, product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import synthetic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_page import Page, embedded_runs, figures, of

from harness.record import Memory, Quality, Record, Run, Status
from harness.reporting import html, view
from harness.reporting.frame import frame
from harness.spec import OperationSpec, QualitySpec

HOSTILE = "</script><script>alert(1)</script>"
STATUSES: tuple[Status, ...] = get_args(Status)


def line_of(plot: dict, series: str) -> dict:
    """A series' line, and not its band or its failures."""
    return next(t for t in plot["data"] if t["meta"] == {"series": series} and "yaxis" not in t)


@pytest.fixture(scope="module")
def realistic() -> Run:
    return synthetic.realistic()


@pytest.fixture(scope="module")
def page(realistic: Run) -> Page:
    return of(realistic)


def test_the_page_is_one_file_that_asks_nothing_of_a_network(page: Page, realistic: Run, tmp_path: Path) -> None:
    path = html.write(view.compare([realistic]), tmp_path / "new" / "folder" / "report.html")
    assert path.is_file()
    assert set(page.addresses) == {"data:,", "#data"}
    assert "link" in page.tags  # the empty icon, without which a browser asks a server for one
    assert not re.search(r"@import|url\(", path.read_text(encoding="utf-8").split("</style>")[0])


def test_the_embedded_json_is_the_run(page: Page, realistic: Run) -> None:
    assert embedded_runs(page) == [realistic]


def test_plotly_is_inside_once(page: Page) -> None:
    assert page.tags.count("script") == 3
    assert len(page.scripts["plotly"]) > 300_000


def test_plotly_is_the_file_that_its_source_names() -> None:
    vendor = files("harness.reporting").joinpath("vendor")
    digest = hashlib.sha256(vendor.joinpath("plotly-basic.min.js").read_bytes()).hexdigest()
    assert digest in vendor.joinpath("SOURCE.md").read_text(encoding="utf-8")


def test_sections_come_in_order(page: Page) -> None:
    headings = [
        "Attentions compared",
        "The attention alone",
        "A whole model",
        "A trained task",
        "How time grows with length",
        "Where one becomes faster than another",
        "Error against number of hashes",
        "Accuracy after training",
        "Rivals at equal size",
        "Memory taken apart",
        "What did not run, and why",
        "Verified before timing",
        "Settings and machine",
    ]
    places = [page.text.index(heading) for heading in headings]
    assert places == sorted(places)


def test_every_record_without_a_result_is_listed_with_its_reason(page: Page, realistic: Run) -> None:
    failed = [record for record in realistic.records if record.status != "ok"]
    assert {record.status for record in failed} == set(STATUSES) - {"ok"}
    for record in failed:
        assert record.case_id in page.text
        assert all(reason in page.text for reason in record.reasons)


def test_failures_are_marked_at_their_length_and_never_drawn_as_a_value(page: Page, realistic: Run) -> None:
    forward = next(v for v in figures(page)["operation"] if v["facets"]["Pass"] == "forward")
    for plot in forward["plots"][:2]:
        marks = [trace for trace in plot["data"] if trace.get("yaxis") == "y2"]
        found = {(trace["meta"]["series"], n) for trace in marks for n in trace["x"]}
        assert {("softmax", 16384), ("sdpa_math", 16384), ("broken", 512), ("broken", 1024)} == found
        reasons = " ".join(words for trace in marks for words in trace["hovertext"])
        assert "out of memory" in reasons
        assert "SIGSEGV in worker" in reasons
        softmax = line_of(plot, "softmax")
        assert max(softmax["x"]) == 8192
        assert min(softmax["y"]) > 0
    assert "xformers_cutlass" in " ".join(forward["plots"][0]["remarks"])


def test_lines_are_the_medians_of_the_records(page: Page, realistic: Run) -> None:
    forward = next(v for v in figures(page)["operation"] if v["facets"]["Pass"] == "forward")
    line = line_of(forward["plots"][0], "yoso")
    chosen = [
        record
        for record in realistic.records
        if isinstance(record.spec, OperationSpec) and record.spec.attention == "yoso" and record.spec.mode == "forward"
    ]
    medians = {r.spec.seq_len: float(np.median(r.timing.wall_seconds)) for r in chosen if r.timing}
    assert dict(zip(line["x"], line["y"], strict=True)) == medians
    assert "15 samples" in line["hovertext"][0]
    assert "kernel: yoso kernel" in line["hovertext"][0]
    assert "m = 32" in line["hovertext"][0]
    assert "tau = 7" in line["hovertext"][0]
    memory = line_of(forward["plots"][1], "yoso")
    assert memory["y"] == [record.memory.peak_bytes for record in chosen if record.memory]


def test_a_series_has_one_look_in_every_plot(page: Page) -> None:
    looks: dict[str, set[str]] = {}
    for view_list in figures(page).values():
        for trace in (t for one in view_list for plot in one["plots"] for t in plot["data"]):
            if color := trace.get("marker", {}).get("color"):
                looks.setdefault(trace["meta"]["series"], set()).add(color)
    assert len(looks) > 8
    assert all(len(colors) == 1 for colors in looks.values())


def test_hash_families_are_lines_of_their_own(page: Page) -> None:
    views_ = figures(page)["hashes"]
    assert [v["facets"]["Error of"] for v in views_] == [
        "the output",
        "the gradient of q",
        "the gradient of k",
        "the gradient of v",
    ]
    lines = [t for t in views_[0]["plots"][0]["data"] if "hovertext" in t]
    assert [t["meta"]["series"].split("=")[1] for t in lines] == ["gaussian)", "hadamard)", "hadamard_dependent)"]
    assert all(t["x"] == [8, 16, 32, 64, 128] for t in lines)


def test_quality_without_hashes_or_with_a_broken_error_is_named_not_dropped() -> None:
    exact = QualitySpec(attention="softmax", seq_len=1024)
    broken = QualitySpec(attention="broken", seq_len=1024, knobs={"num_hash": 8})
    records = [
        synthetic.quality("gaussian", 8, np.random.default_rng(0)),
        synthetic.record(exact, quality=Quality(reference="float64", errors={"output": [2e-7]})),
        synthetic.record(broken, quality=Quality(reference="yoso_e", errors={"output": [float("inf")]})),
    ]
    plot = figures(of(synthetic.run(records)))["hashes"][0]["plots"][0]
    assert plot["title"] == "Relative error of the output against yoso_e"
    assert plot["remarks"] == [
        "softmax is not drawn: it has no number of hashes; 2.00e-07 against float64.",
        "broken is not drawn: an error that is not finite against yoso_e.",
    ]


def test_accuracy_shows_every_seed_and_both_baselines(page: Page) -> None:
    plot = figures(page)["seeds"][0]["plots"][0]
    dots = {t["meta"]["series"]: t["x"] for t in plot["data"] if len(t["x"]) == 2}
    assert dots["yoso"] == [0.352, 0.361]
    assert {note["text"] for note in plot["layout"]["annotations"]} == {"chance 10.0%", "majority 17.2%"}


def test_machine_commit_command_and_settings_are_there(page: Page, realistic: Run) -> None:
    assert realistic.commit is not None
    for words in (realistic.command, realistic.commit, "Example CPU @ 2.0 GHz", "record schema", "torch CPU allocator"):
        assert words in page.text


def test_no_records_is_said() -> None:
    page = of(synthetic.run([]))
    assert "This run holds no records" in page.text
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
    assert "fastest exact softmax attention is sdpa: 1" in page.text
    assert "Where one becomes faster" not in page.text


def test_a_peak_of_zero_bytes_is_named_not_drawn() -> None:
    spec = OperationSpec(attention="sdpa", seq_len=64)
    zero = synthetic.record(spec, memory=Memory(peak_bytes=0, input_bytes=0, source="made up"))
    views_ = figures(of(synthetic.run([zero])))["operation"]
    assert views_[0]["plots"][1]["data"] == []
    assert spec.case_id in views_[0]["plots"][1]["remarks"][0]


def test_settings_that_differ_are_never_in_one_plot() -> None:
    rng = np.random.default_rng(0)
    records = [synthetic.operation("sdpa", n, rng, dtype=d) for n in (256, 512) for d in ("float32", "bfloat16")]
    views_ = figures(of(synthetic.run(records)))["operation"]
    assert {v["facets"]["Type"] for v in views_} == {"float32", "bfloat16"}
    assert all(len(v["plots"][0]["data"]) == 2 for v in views_)  # a line and its band


def test_device_and_wall_time_are_never_in_one_plot() -> None:
    rng = np.random.default_rng(0)
    wall = synthetic.operation("sdpa", 256, rng)
    both = synthetic.operation("softmax", 256, rng)
    assert both.timing is not None
    both.timing.device_seconds = [1e-6] * 15
    assert set(frame(synthetic.run([wall, both]))["clock"]) == {"wall"}
    assert set(frame(synthetic.run([both]))["clock"]) == {"device"}


def test_a_knob_that_follows_the_length_makes_no_series_but_one_that_differs_does() -> None:
    rng = np.random.default_rng(0)

    def at(n: int, m: int) -> Record:
        spec = OperationSpec(attention="yoso", seq_len=n, knobs={"num_hash": m})
        return synthetic.timed(spec, 1e-3, 1e3, rng, knobs={"num_hash": m, "hash_code_len": n.bit_length()})

    assert set(frame(synthetic.run([at(256, 16), at(512, 16)]))["series"]) == {"yoso"}
    several = frame(synthetic.run([at(256, 16), at(512, 16), at(256, 32)]))
    assert set(several["series"]) == {"yoso (num_hash=16)", "yoso (num_hash=32)"}


def test_records_that_leave_a_knob_to_the_attention_stay_one_series() -> None:
    rng = np.random.default_rng(0)

    def at(n: int, tau: int, **knobs: int) -> Record:
        spec = OperationSpec(attention="yoso", seq_len=n, knobs=knobs)
        return synthetic.timed(spec, 1e-3, 1e3, rng, knobs={"hash_code_len": tau})

    rows = frame(synthetic.run([at(256, 8), at(512, 9), at(512, 4, hash_code_len=4)]))
    assert sorted(rows["series"]) == ["yoso", "yoso", "yoso (hash_code_len=4)"]
    upgraded = frame(synthetic.run([at(256, 8), at(256, 9)]))
    assert set(upgraded["series"]) == {"yoso (hash_code_len=8)", "yoso (hash_code_len=9)"}


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
    assert page.tags.count("script") == 3
    assert "img" not in page.tags
    assert embedded_runs(page) == [run]
    drawn = [trace for one in figures(page)["operation"] for plot in one["plots"] for trace in plot["data"]]
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
def test_any_records_give_a_whole_page(cases: list[tuple[str, int, Status, float]]) -> None:
    rng = np.random.default_rng(0)
    records = []
    for name, length, status, seconds in cases:
        spec = OperationSpec(attention=name, seq_len=length)
        records.append(synthetic.timed(spec, seconds, 10, rng) if status == "ok" else synthetic.record(spec, status))
    run = synthetic.run(records)
    page = of(run)
    assert page.tags.count("script") == 3
    assert embedded_runs(page) == [run]
    assert bool(figures(page)) == bool(records)


@pytest.mark.parametrize(("cases", "megabytes"), [(2_000, 6), (10_000, 20)])
def test_many_cases_are_small_and_quick(tmp_path: Path, cases: int, megabytes: int) -> None:
    rng = np.random.default_rng(0)
    shapes = product(range(1, 101), (1, 2, 4, 8), [2**e for e in range(7, 21)], synthetic.COSTS)
    records = []
    for batch, heads, n, name in islice(shapes, cases):
        spec = OperationSpec(attention=name, seq_len=n, batch=batch, heads=heads)
        scale, power, peak, grows = synthetic.COSTS[name]
        records.append(synthetic.timed(spec, scale * n**power, peak * n**grows, rng, samples=20))
    assert len(records) == cases
    begin = time.perf_counter()
    path = html.write(view.compare([synthetic.run(records)]), tmp_path / "report.html")
    assert time.perf_counter() - begin < 60  # 13 s for 10,000 cases on one core; a busy machine has its share
    assert path.stat().st_size < megabytes * 1_000_000
