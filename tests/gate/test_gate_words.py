"""What the gate says: its sentence, its table at 80 columns, and its comment, for small, large and hostile runs."""

import json
from dataclasses import replace
from io import StringIO

import gate_runs
import pytest
import synthetic
from gate_runs import SPECS
from rich.cells import cell_len
from rich.console import Console

from harness.core.quantities import change_words
from harness.core.record import MachineUse, Quality
from harness.core.spec import OperationSpec, QualitySpec
from harness.gate.judge import case_rows, judgement, outputs
from harness.gate.judge.thresholds import Settings

HOSTILE = "[red]x[/red] \x1b[31m`|<script>\n# @all \u202e " + "y" * 300


def printed(judged, width=80):
    """The lines on a terminal of so many columns."""
    written = StringIO()
    outputs.print_judgement(judged, Console(file=written, width=width, force_terminal=True, color_system=None))
    return written.getvalue().splitlines()


def quality(spec, error, inputs="recorded", gradient=None):
    """A record of the error at the setting of a timed case."""
    more = {"recording": "made up"} if inputs == "recorded" else {}
    asked = QualitySpec(attention=spec.attention, seq_len=spec.seq_len, inputs=inputs, **more)
    errors = {"output": [error], "grad_q": [gradient or error]}
    return synthetic.record(asked, quality=Quality(reference="yoso_e, float64", errors=errors))


@pytest.fixture(scope="module")
def judged():
    base, head = gate_runs.pair(slower={SPECS[3]: 1.3, SPECS[0]: 0.7}, larger={SPECS[3]: 1.1})
    for run, error in ((base, 0.031), (head, 0.036)):
        run.records += [quality(SPECS[3], error), quality(SPECS[3], 0.9, "normal")]
    return replace(judgement.judge(base, head, Settings()), command="harness gate base.json head.json")


def test_the_first_line_is_a_sentence_with_the_commits_the_cases_and_the_result(judged):
    lines = printed(replace(judged, base="0" * 40, head="1" * 40 + "+dirty"), width=200)
    assert lines[0] == (
        "Regression: 2 of 8 cases are worse at head (111111111111+dirty) than at base (000000000000); "
        "6 pass (5 the same, 1 better)."
    )


@pytest.mark.parametrize(("change", "words"), [(0.1, "+10.0%"), (-0.0004, "0.0%"), (0.0004, "0.0%"), (-0.02, "-2.0%")])
def test_a_change_that_rounds_to_zero_has_no_sign(change, words):
    assert change_words(change) == words


def test_a_row_has_both_times_the_change_the_error_and_the_verdict(judged):
    (line,) = (line for line in printed(judged, width=170) if line.lstrip().startswith("operation yoso "))
    words = " ".join(line.split())
    assert words.startswith("operation yoso h8 fwd 10.1 ms -> 13.3 ms +")
    assert words.endswith("%] 3.10% -> 3.60% regression: SLOWER")
    comment = outputs.markdown(judged)
    (row,) = (line for line in comment.splitlines() if line.startswith(f"| {SPECS[3].case_id} |"))
    assert "time 10.1 ms -&#62; 13.3 ms<br>memory 977 KiB -&#62; 1.05 MiB" in row
    assert " | 3.10% -&#62; 3.60% | regression: SLOWER<br>regression: LARGER |" in row
    (other,) = (line for line in comment.splitlines() if line.startswith(f"| {SPECS[0].case_id} |"))
    assert " | error not measured | pass: FASTER |" in other
    assert "on recorded or random inputs" in comment  # one of the folded cases measured an error on random ones


def test_a_narrow_terminal_keeps_the_words_that_distinguish_the_cases_and_every_number(judged):
    lines = printed(judged)
    assert max(map(cell_len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "all cases: n128 b1 d64 fp32 cpu" in text
    for words in ("sdpa", "yoso", "10.1 ms", "-> 13.3 ms", "regression:", "SLOWER", "pass: FASTER"):
        assert words in text.replace("\n", " "), words
    assert "not in the table: 5 cases: all the same" in text
    assert text.endswith("reproduce: harness gate base.json head.json")
    assert "machine: Example CPU @ 2.0 GHz, 2 cores, torch 2.13.0" in text


def test_cases_that_are_the_same_are_counted_in_the_terminal_and_folded_in_the_comment():
    judged = judgement.judge(*gate_runs.pair(), Settings())
    lines = printed(judged)
    assert " ".join(lines[:2]) == (
        "Pass: none of 6 cases is worse at head (0123456789abcdef+dirty) than at base  (0123456789abcdef+dirty); "
        "6 pass (all the same)."
    )
    assert not any("sdpa" in line for line in lines)
    comment = outputs.markdown(judged)
    assert "### Gate: PASS\n" in comment
    before, folded = comment.split("<details><summary>6 cases: all the same</summary>\n\n| case |")
    assert "| operation" not in before
    assert all(f"| {spec.case_id} | time 10" in folded for spec in SPECS)
    assert json.loads(outputs.as_json(judged))["cases"] == {"pass": 6}


def test_one_case_has_its_whole_id():
    judged = judgement.judge(*gate_runs.pair(slower={SPECS[0]: 1.5}, specs=SPECS[:1]), Settings())
    text = "".join(line.strip() for line in printed(judged, width=140))
    assert SPECS[0].case_id in text
    assert "all cases" not in text
    assert text.startswith("Regression: 1 of 1 case is worse")


def test_a_run_in_which_every_case_fails_names_each_reason_once():
    good = synthetic.run([synthetic.record(spec) for spec in SPECS])
    failed = synthetic.run([synthetic.record(spec, "crashed", reasons=["no luck"]) for spec in SPECS])
    lines = printed(judgement.judge(good, failed, Settings()))
    assert [line for line in lines if "no luck" in line] == [
        "why (sdpa n128; sdpa n512; sdpa n2048 and 3 more): crashed: no luck",
    ]
    assert sum("FAILING" in line for line in lines) == 6


def test_a_judgement_without_any_case_is_invalid_and_says_why():
    lines = printed(judgement.not_judged("base", "head", "main is not a commit"))
    assert lines == ["Invalid: head could not be compared with base.", "why (all cases): main is not a commit"]


def test_two_thousand_cases_stay_readable_and_within_the_comment():
    specs = [OperationSpec(attention=name, seq_len=n) for n in range(1, 1001) for name in ("sdpa", "nystromformer")]
    records = [synthetic.record(spec) for spec in specs]
    failing = [synthetic.record(spec, "oom") if spec.seq_len % 2 else synthetic.record(spec) for spec in specs]
    judged = judgement.judge(synthetic.run(records), synthetic.run(failing), Settings())
    lines = printed(judged)
    assert max(map(cell_len, lines)) <= 80
    assert sum(line.lstrip().startswith(("sdpa n", "nystromformer n")) for line in lines) == 1000
    comment = outputs.markdown(judged)
    assert len(comment) <= outputs.COMMENT_BYTES
    assert "it leaves out " in comment
    assert len(json.loads(outputs.as_json(judged))["findings"]) == 1000


def test_names_from_outside_are_no_markup_and_no_name_is_cut():
    base, head = gate_runs.pair(slower={SPECS[0]: 1.5, SPECS[1]: 1.5}, specs=SPECS[:2])
    for run in (base, head):
        for record in run.records:
            record.case_id = f"{HOSTILE}-{record.spec.seq_len}"
    judged = judgement.judge(base, head, Settings())
    lines = printed(replace(judged, report=HOSTILE, command=HOSTILE, machine=HOSTILE))
    assert "\x1b" not in "".join(lines)
    assert "[red]x[/red]" in "".join(line.strip() for line in lines)
    comment = outputs.markdown(replace(judged, report=HOSTILE, command=HOSTILE))
    assert comment.count("y" * 300) == 4  # both cases, the report and the command
    assert "<script>" not in comment
    assert "\n#" not in comment.replace("\n### Gate", "")


def test_an_address_of_the_report_is_a_link_and_a_path_is_code():
    judged = judgement.judge(*gate_runs.pair(), Settings())
    assert "report: <https://example.org/r?x=1>" in outputs.markdown(
        replace(judged, report="https://example.org/r?x=1")
    )
    assert "report: `out/report.html`" in outputs.markdown(replace(judged, report="out/report.html"))
    assert "report: `https://x/> <b>`" in outputs.markdown(replace(judged, report="https://x/> <b>"))


def test_every_finding_has_one_of_four_words():
    finding = judgement.GateFinding("a", None, "AMBIGUOUS", "inconclusive", "r")
    findings = (
        finding,
        replace(finding, weight="fine"),
        judgement.invalid("r", "b"),
        replace(finding, verdict="SLOWER", weight="regression"),
    )
    words = [case_rows.kind_of(each) for each in findings]
    assert words == ["inconclusive", "pass", "invalid", "regression"]
    assert case_rows.result_of(judgement.Judgement("a", "b", findings[:3], ())) == "inconclusive"


@pytest.fixture(scope="module")
def other_threads():
    """Twelve cases that cannot be compared, one that is only in head, and one that is only in base."""
    specs = [OperationSpec(attention="sdpa", seq_len=128 * n) for n in range(1, 15)]
    base, head = gate_runs.pair(rounds=1, specs=specs, session=None)
    for record in head.records:
        assert record.timing is not None
        record.timing.threads = 4
    del base.records[12], head.records[13]
    head.machine["cores"] = 4
    return base, head


def test_cases_with_one_reason_are_one_line_with_their_number_and_the_first_three_names(other_threads):
    judged = judgement.judge(*other_threads, Settings(), anyway=True)
    lines = printed(judged, width=300)
    names = "n128; n256; n384 and 9 more"
    assert lines.count(f"12 cases, invalid ({names}): threads: base has 2, head 4") == 1
    assert sum("invalid" in line for line in lines[1:]) == 1
    assert any("regression: VANISHED" in line for line in lines)
    comment = outputs.markdown(judged)
    (row,) = (line for line in comment.splitlines() if "threads: base" in line)
    assert row.startswith("| 12 cases: operation/sdpa-n128-b1-h8-d64-fwd-fp32-cpu; operation/sdpa-n256-")
    assert "-n384-b1-h8-d64-fwd-fp32-cpu and 9 more | " in row
    found = json.loads(outputs.as_json(judged))
    assert sum(finding["verdict"] == "INVALID" for finding in found["findings"]) == 12
    (group,) = found["groups"]
    assert (group["result"], group["cases"], len(group["first"])) == ("invalid", 12, 3)
    assert group["reasons"] == ["threads: base has 2, head 4"]


def test_three_cases_with_one_reason_and_every_regression_have_their_own_rows():
    specs = [OperationSpec(attention="sdpa", seq_len=128 * n) for n in range(1, 10)]
    base, head = gate_runs.pair(rounds=1, specs=specs, session=None)
    for record in head.records[:3]:
        record.timing.threads = 4
    del head.records[4:]
    judged = judgement.judge(base, head, Settings())
    rows = [line for line in outputs.markdown(judged).splitlines() if line.startswith("| operation/")]
    assert sum("| invalid |" in row for row in rows) == 3
    assert sum("VANISHED" in row for row in rows) == 5
    assert json.loads(outputs.as_json(judged))["groups"] == []


def test_a_comment_counts_the_cases_of_a_group_that_it_leaves_out(other_threads):
    judged = judgement.judge(*other_threads, Settings(), anyway=True)
    group = [row for row in case_rows.grouped(case_rows.case_rows(judged)) if row.others]
    assert "it leaves out 12 invalid cases." in outputs._markdown_table(group, outputs.HEADINGS, room=10)[-1]


def test_a_difference_between_two_machines_is_said_once(other_threads):
    judged = judgement.judge(*other_threads, Settings())
    difference = "cores: base has 2, head 4"
    for text in ("\n".join(printed(judged, width=200)), outputs.markdown(judged)):
        assert text.count(difference) == 1
        assert "the runs cannot be compared: see the differences between them" in text
    assert difference in json.loads(outputs.as_json(judged))["findings"][0]["reason"]


@pytest.mark.parametrize(
    ("session", "advice"),
    [(None, "repeat it on an idle machine"), ("one", "measured in turns, so that it affected both alike")],
)
def test_what_disturbed_a_run_is_in_every_output(session, advice):
    base, head = gate_runs.pair(rounds=1, session=session)
    use = {"elapsed_seconds": 5.0, "cores": 2, "load": 3.0, "foreign_cpu_seconds": 4.5}
    use |= {"own_cpu_seconds": 5.0, "stolen_cpu_seconds": None, "thermal_throttles": None}
    head.records[2] = head.records[2].model_copy(update={"machine_use": MachineUse.model_validate(use)})
    judged = judgement.judge(base, head, Settings())
    observed = "processes that do not belong to the run used up to 0.9 of the 2 cores"
    for text in ("\n".join(printed(judged, width=400)), outputs.markdown(judged)):
        (line,) = (line for line in text.splitlines() if observed in line)
        assert line.removeprefix("- ").startswith("head was disturbed from 2026-01-02 03:04:05 to ")
        assert advice in line
    found = json.loads(outputs.as_json(judged))["disturbances"]
    assert [*found] == ["head"]
    assert observed in found["head"]["sentence"]
    assert found["head"]["causes"][0]["kind"] == "foreign processes"
