"""The fairness lint on synthetic records: every inequality is found with its reason, and nothing else is."""

import json
from pathlib import Path

import numpy as np
import pytest
import synthetic

from harness.core import store
from harness.core.record import Conditions, Timing
from harness.core.spec import ModelSpec, OperationSpec
from harness.report.questions.fairness import FairnessFinding, findings

REPORTS = Path(__file__).parents[2] / "reports"
RUNS = [path for path in sorted(REPORTS.glob("*/*.json")) if "harness" in json.loads(path.read_text())]
EQUAL = {
    "parameters": 0,
    "compiled": False,
    "float32_matmul": "highest",
    "dtypes": ["float32"],
    "dropout": False,
    "recomputes": False,
    "layout_copies": 0,
    "all_pairs": False,
}


def record(attention, spec=None, threads=2, **changes):
    spec = (spec or OperationSpec(attention="x", seq_len=64)).model_copy(update={"attention": attention})
    more = {name: changes.pop(name) for name in ("status", "reasons", "work") if name in changes}
    if more.get("status", "ok") == "ok":
        timing = Timing(wall_seconds=[1.0], warmup_calls=1, threads=threads)
        more |= {"timing": timing, "conditions": Conditions(**EQUAL | changes)}
    return synthetic.record(spec, **more)


def test_equal_cases_have_no_finding():
    assert findings([record("a"), record("b"), record("c")]) == []
    assert findings([]) == []


@pytest.mark.parametrize(
    ("change", "name", "reason"),
    [
        (
            {"parameters": 1500},
            "parameters",
            "c had 1,500 trainable parameters, where others had 0 trainable parameters",
        ),
        ({"float32_matmul": "high"}, "TF32", "c multiplied float32 matrices at 'high' precision"),
        ({"dtypes": ["bfloat16", "float32"]}, "dtype", "c computed in bfloat16 and float32"),
        ({"dropout": True}, "dropout", "c applied dropout, where others applied no dropout"),
        ({"recomputes": True}, "checkpointing", "c recomputed forward operations for backward"),
        ({"compiled": True}, "compiled", "c ran compiled, where others ran without compilation"),
        ({"layout_copies": 3}, "layout copies", "c made 3 input-sized copies in another layout"),
        ({"threads": 8}, "threads", "c ran on 8 threads, where others ran on 2 threads"),
    ],
)
def test_the_attention_that_differs_is_named_with_its_reason(change, name, reason):
    records = [record("a"), record("b"), record("c", **change)]
    (finding,) = findings(records)
    assert (finding.name, finding.attention, finding.cases) == (name, "c", (records[2].case_id,))
    assert finding.reason.startswith(reason)


def test_what_an_attention_changed_in_its_process_is_named_whatever_its_status():
    changed = ["torch.get_num_threads() changed from 2 to 1"]
    crashed = record("b", status="crashed", reasons=["it fell"]).model_copy(update={"findings": changed})
    assert findings([record("a"), crashed]) == [
        FairnessFinding("process", "b", f"b: {changed[0]}", (crashed.case_id,)),
    ]


def test_equal_reasons_of_several_lengths_are_one_finding():
    specs = [OperationSpec(attention="x", seq_len=n) for n in (64, 128)]
    records = [record(name, spec, dropout=name == "b") for spec in specs for name in ("a", "b", "c")]
    (finding,) = findings(records)
    assert finding.cases == tuple(sorted(each.case_id for each in records if each.spec.attention == "b"))


def test_different_workloads_are_not_compared():
    short, long = (OperationSpec(attention="x", seq_len=n) for n in (64, 128))
    assert findings([record("a", short, dropout=True), record("b", long)]) == []
    half = OperationSpec(attention="x", seq_len=64, dtype="bfloat16")
    assert findings([record("a", short), record("a", half, dtypes=["bfloat16"])]) == []


def test_knobs_and_a_models_family_are_compared():
    spec = ModelSpec(attention="x", seq_len=64)
    bert = spec.model_copy(update={"family": "bert"})
    (finding,) = findings([record("sdpa", spec), record("sdpa", bert, parameters=7)])
    assert finding.reason == "sdpa in bert had 7 trainable parameters, where others had 0 trainable parameters"
    spec = OperationSpec(attention="x", seq_len=64)
    tuned = spec.model_copy(update={"knobs": {"window": 3}})
    assert [finding.name for finding in findings([record("a", spec), record("a", tuned, dropout=True)])] == ["dropout"]


def test_records_without_conditions_still_have_the_parameters_of_models():
    spec = ModelSpec(attention="x", seq_len=64)
    records = [record(name, spec) for name in ("a", "b", "c")]
    records = [
        each.model_copy(update={"conditions": None, "parameters": count})
        for each, count in zip(records, (5, 6, 5), strict=True)
    ]
    assert [(finding.name, finding.attention) for finding in findings(records)] == [("parameters", "b")]


def test_facts_that_were_not_observed_are_not_compared():
    unseen = dict.fromkeys(("dropout", "recomputes", "layout_copies", "all_pairs"))
    records = [record("a"), record("b"), record("c", compiled=True, dtypes=[], unseen="compiled", **unseen)]
    assert [finding.name for finding in findings(records)] == ["compiled"]


@pytest.mark.parametrize(
    ("mode", "all_pairs", "work", "simulated"),
    [
        ("forward", True, 0.5, True),
        ("forward", False, 0.5, False),
        ("forward", True, 1.0, False),
        ("forward_backward", True, 2.0, True),
        ("forward_backward", True, 3.5, False),
        ("forward", True, None, False),
    ],
)
def test_all_pairs_with_less_declared_work_is_simulated_sparsity(mode, all_pairs, work, simulated):
    spec = OperationSpec(attention="x", seq_len=64, mode=mode)
    dense = 4.0 * spec.batch * spec.heads * 64**2 * spec.head_dim
    declared = None if work is None else {"matmul float32": work * dense, "copy": 1e12}
    sparse = record("sparse", spec, all_pairs=all_pairs, work=declared)
    assert [finding.name for finding in findings([sparse])] == ["dense-simulated sparsity"] * simulated


def test_an_attention_without_padding_support_is_named_in_its_measured_cases():
    whole = OperationSpec(attention="x", seq_len=64)
    padded = whole.model_copy(update={"padding": 0.25})
    records = [
        record("a", whole),
        record("b", whole),
        record("a", padded),
        record("b", padded, status="unsupported", reasons=["it has no mask"]),
        record("c", padded, status="unsupported", reasons=["not here"]),
    ]
    reason = "b was measured without padding only; with padding: it has no mask"
    assert findings(records) == [FairnessFinding("no padding", "b", reason, (records[1].case_id,))]


def test_a_realistic_run_differs_at_most_in_parameters():
    assert {finding.name for finding in findings(synthetic.realistic().records)} <= {"parameters"}
    rng = np.random.default_rng(0)
    models = [synthetic.model("yoso", name, 512, rng, "forward", "encoder") for name in ("yoso", "sdpa")]
    assert findings(models) == []


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_published_runs_can_be_read(path):
    """Also the first of them, which were written before records had conditions."""
    run = store.load(path)
    known = {each.case_id for each in run.records}
    assert all(set(finding.cases) <= known for finding in findings(run.records))
