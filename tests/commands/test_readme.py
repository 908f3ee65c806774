"""README's figures are those of the committed runs, its links exist, and its code is what runs."""

import json
import re
from pathlib import Path

from harness.api.comparison_result import ComparisonResult
from harness.core import store

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLE = ROOT / "examples" / "compare_attention.py"


def block(mark: str) -> str:
    """The code block between two comments."""
    found = re.search(rf"<!-- example: {mark} -->\n```\w*\n(.*?)```\n<!-- end of example -->", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_is_the_committed_script():
    assert block("code") == EXAMPLE.read_text(encoding="utf-8")


def test_the_output_of_the_example_is_that_of_the_committed_run():
    run = store.load(ROOT / "reports" / "first-comparison" / "run.json")
    names = {record.spec.attention for record in run.records}
    assert names == {"mine", "sdpa", "yoso", "sdpa_again"}
    assert block("output").rstrip("\n") == str(ComparisonResult(run, timed_again=("sdpa", "sdpa_again")))


def test_the_example_runs(monkeypatch):
    small = EXAMPLE.read_text(encoding="utf-8").replace("lengths=2048", "lengths=64, heads=1, seconds=0.01")
    assert "lengths=64" in small
    names: dict[str, object] = {}
    exec(compile(small, str(EXAMPLE), "exec"), names)
    found = names["comparison"]
    assert isinstance(found, ComparisonResult)
    assert {row.status for row in found.rows} == {"ok"}


def test_the_error_rates_of_the_gate_are_those_of_the_committed_proof():
    rows = json.loads((ROOT / "reports" / "gate-proof" / "proof.json").read_text())["rows"]

    def counted(gate, planted, event):
        (row,) = (r for r in rows if (r["gate"], r["planted"], r["cases"]) == (gate, planted, 60))
        return row[event]["count"], row["runs"]

    false_alarms, runs = counted("harness ab", "nothing", "alarm")
    named, planted_runs = counted("harness ab", "time +10%", "planted case named")
    rival_alarms, rival_runs = counted("pytest-benchmark median:5%", "nothing", "alarm")
    words = " ".join(README.split())
    assert f"it raised {false_alarms} false alarms in {runs:,} runs of 60 cases" in words
    assert f"named a case slowed by 10% in {named} of {planted_runs:,}" in words
    assert f"pytest-benchmark's `median:5%` raised {rival_alarms} in {rival_runs}" in words


def test_every_linked_file_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_it_is_short():
    assert len(README.splitlines()) < 120
