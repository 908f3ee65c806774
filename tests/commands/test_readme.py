"""README's figures come from the committed run, and its code runs."""

import json
import re
import statistics
from pathlib import Path

import torch

from harness import store
from harness.record import Run
from harness.spec import OperationSpec

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN = ROOT / "reports" / "cpu-standard" / "run.json"
LENGTHS = (512, 2048, 4096, 8192, 16384)
ATTENTIONS = ("softmax", "sdpa", "yoso_e", "yoso")


def operation_table(run: Run) -> str:
    """The table between README's marks: median milliseconds of the standard profile's operation cases."""
    found = {
        (record.spec.mode, record.spec.attention, record.spec.seq_len): statistics.median(record.timing.wall_seconds)
        for record in run.records
        if isinstance(record.spec, OperationSpec) and record.timing is not None and not record.spec.padding
    }
    lines = ["| | " + " | ".join(f"n={n:,}" for n in LENGTHS) + " |", "|---|" + "---:|" * len(LENGTHS)]
    for mode, words in (("forward", "forward"), ("forward_backward", "forward + backward")):
        for attention in ATTENTIONS:
            times = [found.get((mode, attention, n)) for n in LENGTHS]
            cells = ["\N{EN DASH}" if time is None else f"{1e3 * time:,.1f}" for time in times]
            lines.append(f"| {words}, {attention} | " + " | ".join(cells) + " |")
        ratios = [f"{found[mode, 'sdpa', n] / found[mode, 'yoso', n]:.1f}x" for n in LENGTHS]
        lines.append("| *sdpa / yoso* | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


def test_the_table_is_the_committed_runs():
    between = re.search(r"<!-- table: operation -->\n(.*?)<!-- end of table -->", README, re.DOTALL)
    assert between is not None
    assert between[1].strip() == operation_table(store.load(RUN))


def test_the_gates_rates_are_the_committed_proofs():
    rows = json.loads((ROOT / "reports" / "gate-proof" / "proof.json").read_text())["rows"]

    def of(gate, planted, what):
        (row,) = (r for r in rows if (r["gate"], r["planted"], r["cases"]) == (gate, planted, 60))
        return row[what]["count"], row["runs"]

    false, runs = of("harness ab", "nothing", "alarm")
    named, planted = of("harness ab", "time +10%", "planted case named")
    theirs, of_theirs = of("pytest-benchmark median:5%", "nothing", "alarm")
    words = " ".join(README.split())
    assert f"it raised {false} false alarms in {runs:,} runs of 60 cases" in words
    assert f"named a case slowed by 10% in {named} of {planted:,}" in words
    assert f"pytest-benchmark's `median:5%` raised {theirs} in {of_theirs}" in words


def test_every_file_that_it_names_is_there():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_its_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(blocks) == 3
    names = {"key_padding_mask": None}
    names |= {name: torch.randn(1, 2, 40, 16) for name in ("query", "key", "value")}
    for block in blocks:
        # Weights of a hub cannot be downloaded in a test; everything else of the block runs.
        code = "\n".join(line for line in block.splitlines() if "from_pretrained" not in line)
        exec(compile(code, "README.md", "exec"), names)
    assert names["out"].shape == (1, 2, 40, 16)
