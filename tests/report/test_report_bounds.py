"""Device and wall time, launch-bound cases, and fractions of measured ceilings, in the report."""

import json
from pathlib import Path

import synthetic
from report_page import of

from harness.core.record import Ceiling, Record, Run, Timing
from harness.core.spec import OperationSpec
from harness.core.store import load
from harness.report.model.records_table import report_rows
from harness.report.questions import hardware_bounds

ROOT = Path(__file__).parents[2]
CEILINGS = [
    Ceiling(name="copy", device="cuda", unit="byte", amount=3e9, seconds=[1e-3, 0.9e-3, 1.1e-3]),
    Ceiling(name="matmul bfloat16", device="cuda", unit="operation", amount=8e11, seconds=[1e-3]),
    Ceiling(name="cache read", device="cuda", unit="operation", amount=0.0, seconds=[], reason="no such kernel"),
]


def on_cuda(name: str, device: float, submit: float, work: dict[str, float] | None) -> Record:
    spec = OperationSpec(attention=name, seq_len=4096, dtype="bfloat16", device="cuda")
    times = {"wall_seconds": [max(device, submit) + 1e-5] * 3, "device_seconds": [device] * 3}
    timing = Timing(**times, submit_seconds=[submit] * 3, warmup_calls=1, flushed_bytes=2**27, input_sets=3)
    return synthetic.record(spec, timing=timing, work=work)


def made_up() -> Run:
    records = [
        on_cuda("sdpa", 2e-3, 1e-4, {"matmul bfloat16": 8e11, "copy": 1e8}),
        on_cuda("yoso", 1e-4, 3e-4, {"copy": 6e7, "cache read": 1e12}),
        on_cuda("yoso_e", 1e-3, 1e-4, None),
    ]
    return synthetic.run(records, ceilings=CEILINGS)


def test_the_fraction_is_of_the_tightest_measured_ceiling() -> None:
    run = made_up()
    table = hardware_bounds.bound_fractions(report_rows(run), [run])
    rows = {row[0]: [str(cell) for cell in row[2:]] for row in table.rows}
    assert rows == {
        "sdpa": ["2.00 ms [2.00 ms, 2.00 ms]", "not measured", "1.00 ms", "matmul bfloat16", "50.0% [50.0%, 50.0%]"],
        "yoso": ["100 µs [100 µs, 100 µs]", "not measured", "20.0 µs", "copy", "20.0% [20.0%, 20.0%]"],
    }


def test_a_case_whose_submission_takes_longer_than_the_device_is_marked() -> None:
    (table,) = hardware_bounds.device_and_host(report_rows(made_up()))
    marks = {row[0]: row[6] for row in table.rows}
    assert marks == {"sdpa": "", "yoso": "launch-bound", "yoso_e": ""}


def test_the_page_has_times_fractions_and_ceilings() -> None:
    page = of(made_up())
    titles = ("Device and host time", "Roofline", "Measured ceilings")
    for words in (*titles, "3,000 GB/s", "800 TFLOP/s"):
        assert words in page.text
    assert "not measured: no such kernel" in page.text


def test_without_ceilings_and_device_times_the_sections_are_absent() -> None:
    page = of(synthetic.realistic(lengths=(512,), modes=("forward",)))
    assert "Roofline" not in page.text
    assert "Device and host time" not in page.text
    assert "Measured ceilings" not in page.text


def test_a_run_from_before_these_fields_still_loads() -> None:
    path = ROOT / "reports/cpu-quick/run.json"
    assert "ceilings" not in json.loads(path.read_text())["harness"]
    run = load(path)
    assert run.ceilings == []
    assert all(record.work is None for record in run.records)


def test_disturbed_times_have_no_fraction_of_their_bound_and_near_ones_are_tied() -> None:
    run = made_up()
    sdpa = run.records[0]
    assert sdpa.timing is not None
    twin = sdpa.model_copy(update={"spec": sdpa.spec.model_copy(update={"attention": "other"})})
    rows = report_rows(synthetic.run([sdpa, twin], ceilings=CEILINGS))
    assert "other at 50.0% [50.0%, 50.0%] of its bound by matmul bfloat16 (no clear difference from sdpa)" in str(
        hardware_bounds.bound_finding(rows, [run])
    )
    disturbed = sdpa.timing.model_copy(update={"disturbed": True, "disturbance": "1 of 2 cores"})
    busy = synthetic.run([sdpa.model_copy(update={"timing": disturbed})], ceilings=CEILINGS)
    rows = report_rows(busy)
    assert hardware_bounds.bound_fractions(rows, [busy]).rows[0][-1] == "disturbed"
    words = "2 ceilings were measured, and other processes disturbed the time of every case with a bound."
    assert str(hardware_bounds.bound_finding(rows, [busy])) == words
    assert hardware_bounds.roofline_figure(rows, CEILINGS, {}) is None
    assert str(hardware_bounds.device_finding(rows)).startswith("0 of 1 case is launch-bound")
    assert str(hardware_bounds.device_finding(rows)).endswith("; 1 disturbed.")


def test_a_case_above_its_bound_is_not_named_as_the_nearest_to_it() -> None:
    work = {"matmul bfloat16": 8e11}
    fast, slow, floor = (on_cuda(*each, 1e-4, work) for each in (("yoso_e", 0.8e-3), ("sdpa", 2e-3), ("none", 1.9e-3)))
    run = synthetic.run([fast, slow, floor], ceilings=CEILINGS)
    words = str(hardware_bounds.bound_finding(report_rows(run), [run]))
    assert words == (
        "Nearest to the bound at 4,096 tokens, forward: sdpa at 50.0% [50.0%, 50.0%] of its bound by matmul bfloat16; "
        "left out: yoso_e 125% [125%, 125%], because above 100% the measured ceiling is too low for the case (caches, "
        "or a higher clock)."
    )
    fractions = {row[0]: str(row[-1]) for row in hardware_bounds.bound_fractions(report_rows(run), [run]).rows}
    assert fractions["yoso_e"] == "125% [125%, 125%] (ceiling too low)"
    assert "Where a case is faster than its bound, the measured ceiling is too low" in of(run).text
    alone = synthetic.run([fast], ceilings=CEILINGS)
    words = str(hardware_bounds.bound_finding(report_rows(alone), [alone]))
    assert words.startswith("None is below its bound at 4,096 tokens, forward (yoso_e 125% [125%, 125%]): above 100% ")


def test_a_case_is_launch_bound_only_where_the_two_times_have_an_order() -> None:
    times = {"device_seconds": [1.0e-4, 2e-4, 3e-4], "submit_seconds": [1.5e-4, 2.1e-4, 2.2e-4]}
    timing = Timing(wall_seconds=[1e-3] * 3, warmup_calls=1, **times)
    assert hardware_bounds.launch_limit(timing) == "not clear"
    once = Timing(wall_seconds=[1e-3], warmup_calls=1, device_seconds=[1e-4], submit_seconds=[3e-4])
    assert hardware_bounds.launch_limit(once) == "not clear"
