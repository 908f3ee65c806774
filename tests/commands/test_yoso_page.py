"""The figures of docs/yoso.md are those of the committed runs, and its code runs."""

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from harness.core import store
from harness.core.record import Run
from harness.core.spec import OperationSpec

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "yoso.md").read_text(encoding="utf-8")
ESTIMATORS = json.loads((ROOT / "reports" / "cpu-estimators" / "estimators.json").read_text(encoding="utf-8"))
GPU_RUN = ROOT / "reports" / "gpu-h100" / "run.json"
GPU_LENGTHS = (512, 2048, 4096, 8192, 16384, 65536)
GPU_ATTENTIONS = ("sdpa_flash", "sdpa_cudnn", "yoso_e", "yoso")


def table(run: Run, lengths: Sequence[int], attentions: Sequence[str], rival: str, digits: int) -> str:
    """A table of the page: median milliseconds of a run's operation cases; on a GPU, of the device's own time."""
    medians = {
        (record.spec.mode, record.spec.attention, record.spec.seq_len): statistics.median(
            record.timing.device_seconds or record.timing.wall_seconds
        )
        for record in run.records
        if isinstance(record.spec, OperationSpec)
        and record.timing is not None
        and not record.spec.padding
        and not record.spec.knobs
        and record.spec.dtype == run.records[0].spec.dtype
    }
    lines = ["| | " + " | ".join(f"n={n:,}" for n in lengths) + " |", "|---|" + "---:|" * len(lengths)]
    for mode, words in (("forward", "forward"), ("forward_backward", "forward + backward")):
        for attention in attentions:
            times = [medians.get((mode, attention, n)) for n in lengths]
            cells = ["\N{EN DASH}" if time is None else f"{1e3 * time:,.{digits}f}" for time in times]
            lines.append(f"| {words}, {attention} | " + " | ".join(cells) + " |")
        ratios = [f"{medians[mode, rival, n] / medians[mode, 'yoso', n]:.1f}x" for n in lengths]
        lines.append(f"| *{rival} / yoso* | " + " | ".join(ratios) + " |")
    return "\n".join(lines)


YOSO_SETTINGS = {
    "yoso, 32 hashes": {"num_hash": 32},
    "yoso rescored, 16 hashes + 64 keys": {"num_hash": 16, "estimator": "rescored", "shared_keys": 64},
}


def times_with_errors(inputs: str) -> str:
    """A table of the page: median milliseconds of exact attention and of YOSO, each of these with its error there."""
    points = {point["seq_len"]: point for point in ESTIMATORS["points"] if point["inputs"] == inputs}
    lines = [
        "| | tokens | sdpa | " + " | ".join(YOSO_SETTINGS) + " |",
        "|---|---:|---:|" + "---:|" * len(YOSO_SETTINGS),
    ]
    for timed, words, tensors in (
        ("forward", "forward", ["output"]),
        ("training", "forward + backward", ["output", "grad_q", "grad_k", "grad_v"]),
    ):
        for length, point in sorted(points.items()):
            found = {(o["attention"], json.dumps(o["knobs"], sort_keys=True)): o for o in point["outcomes"]}
            exact = statistics.median(found["sdpa", "{}"][timed]["wall_seconds"])
            cells = [f"{1e3 * exact:,.1f} ms"]
            for knobs in YOSO_SETTINGS.values():
                outcome = found["yoso", json.dumps(knobs, sort_keys=True)]
                seconds = statistics.median(outcome[timed]["wall_seconds"])
                error = max(statistics.median(outcome["errors"][tensor]) for tensor in tensors)
                cells.append(f"{1e3 * seconds:,.1f} ms ({exact / seconds:.1f}x), error {error:.0%}")
            lines.append(f"| {words} | {length:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("mark", "expected"),
    [
        ("sharp", lambda: times_with_errors("matched")),
        ("gpu", lambda: table(store.load(GPU_RUN), GPU_LENGTHS, GPU_ATTENTIONS, "sdpa_cudnn", 2)),
    ],
)
def test_a_table_is_that_of_the_committed_run(mark, expected):
    between = re.search(rf"<!-- table: {mark} -->\n(.*?)<!-- end of table -->", PAGE, re.DOTALL)
    assert between is not None
    assert between[1].strip() == expected()


def test_the_gpu_figures_in_the_text_are_those_of_the_committed_run():
    medians = {
        (r.spec.attention, r.spec.mode, r.spec.dtype, r.spec.seq_len): statistics.median(r.timing.device_seconds)
        for r in store.load(GPU_RUN).records
        if r.timing is not None and not r.spec.knobs
    }

    def ratio(rival, dtype, mode, own_dtype, own="yoso"):
        return medians[rival, mode, dtype, 4096] / medians[own, mode, own_dtype, 4096]

    words = " ".join(PAGE.split())
    modes = "forward", "forward_backward"
    half, full = ([ratio("transformers_yoso", "float32", m, own) for m in modes] for own in ("bfloat16", "float32"))
    assert f"take {half[0]:.0f} and {half[1]:.0f} times as long (forward; forward and backward)" in words
    assert f"in float32 ours is {full[0]:.1f} and {full[1]:.1f} times as fast" in words
    rival = ratio("transformers_yoso_e", "bfloat16", "forward", "bfloat16", "yoso_e")
    assert f"YOSO-E is {rival:.0f} times as fast as transformers'" in words
    crowded = statistics.median(
        next(
            r.timing.device_seconds
            for r in store.load(GPU_RUN).records
            if (r.spec.knobs, r.spec.mode, r.spec.seq_len) == ({"hash_code_len": 8}, "forward_backward", 4096)
        )
    )
    assert f"takes {1e3 * crowded:.1f} ms" in words


def test_the_inputs_and_heads_of_the_cpus_table_are_those_of_the_committed_run():
    points = [point for point in ESTIMATORS["points"] if point["inputs"] == "matched"]
    words = " ".join(PAGE.split())
    assert {point["head_dim"] for point in points} == {64}
    assert {point["heads"] for point in points if point["seq_len"] <= 4096} == {4}
    assert {point["heads"] for point in points if point["seq_len"] > 4096} == {2}
    assert "4 heads of 64 numbers up to 4,096 tokens and 2 beyond" in words
    assert all(len(o["errors"]["output"]) > 4 for point in points for o in point["outcomes"] if o["errors"])
    assert f"its output is {max(point_error(point) for point in points):.0%} off" in words


def point_error(point: dict) -> float:
    (outcome,) = (o for o in point["outcomes"] if o["knobs"] == {"num_hash": 32})
    return statistics.median(outcome["errors"]["output"])


def test_the_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 3
    names = {"key_padding_mask": None}
    names |= {name: torch.randn(1, 2, 40, 16) for name in ("query", "key", "value")}
    for block in blocks:
        # A test cannot download weights from a hub; all other lines of the block run.
        code = "\n".join(line for line in block.splitlines() if "from_pretrained" not in line)
        exec(compile(code, "yoso.md", "exec"), names)
    assert names["out"].shape == (1, 2, 40, 16)
