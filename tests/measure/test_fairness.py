"""The fairness lint over made-up records: what is unequal is found with its reason, and what is not is not."""

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
def test_the_one_that_differs_is_named_with_its_reason(change, name, reason):
    records = [record("a"), record("b"), record("c", **change)]
    (found,) = findings(records)
    assert (found.name, found.attention, found.cases) == (name, "c", (records[2].case_id,))
    assert found.reason.startswith(reason)


def test_equal_reasons_of_several_lengths_are_one_finding():
    specs = [OperationSpec(attention="x", seq_len=n) for n in (64, 128)]
    records = [record(name, spec, dropout=name == "b") for spec in specs for name in ("a", "b", "c")]
    (found,) = findings(records)
    assert found.cases == tuple(sorted(one.case_id for one in records if one.spec.attention == "b"))


def test_other_workloads_are_not_compared():
    short, long = (OperationSpec(attention="x", seq_len=n) for n in (64, 128))
    assert findings([record("a", short, dropout=True), record("b", long)]) == []
    half = OperationSpec(attention="x", seq_len=64, dtype="bfloat16")
    assert findings([record("a", short), record("a", half, dtypes=["bfloat16"])]) == []


def test_knobs_and_a_models_family_are_compared():
    spec = ModelSpec(attention="x", seq_len=64)
    bert = spec.model_copy(update={"family": "bert"})
    (found,) = findings([record("sdpa", spec), record("sdpa", bert, parameters=7)])
    assert found.reason == "sdpa in bert had 7 trainable parameters, where others had 0 trainable parameters"
    spec = OperationSpec(attention="x", seq_len=64)
    tuned = spec.model_copy(update={"knobs": {"window": 3}})
    assert [one.name for one in findings([record("a", spec), record("a", tuned, dropout=True)])] == ["dropout"]


def test_older_records_know_the_parameters_of_models_and_the_threads():
    spec = ModelSpec(attention="x", seq_len=64)
    records = [record(name, spec) for name in ("a", "b", "c")]
    records = [
        one.model_copy(update={"conditions": None, "parameters": count})
        for one, count in zip(records, (5, 6, 5), strict=True)
    ]
    assert [(one.name, one.attention) for one in findings(records)] == [("parameters", "b")]


def test_what_was_not_seen_is_not_compared():
    unseen = dict.fromkeys(("dropout", "recomputes", "layout_copies", "all_pairs"))
    records = [record("a"), record("b"), record("c", compiled=True, dtypes=[], unseen="compiled", **unseen)]
    assert [one.name for one in findings(records)] == ["compiled"]


@pytest.mark.parametrize(
    ("mode", "all_pairs", "work", "found"),
    [
        ("forward", True, 0.5, True),
        ("forward", False, 0.5, False),
        ("forward", True, 1.0, False),
        ("forward_backward", True, 2.0, True),
        ("forward_backward", True, 3.5, False),
        ("forward", True, None, False),
    ],
)
def test_pairs_that_are_not_counted_are_simulated_sparsity(mode, all_pairs, work, found):
    spec = OperationSpec(attention="x", seq_len=64, mode=mode)
    dense = 4.0 * spec.batch * spec.heads * 64**2 * spec.head_dim
    claimed = None if work is None else {"matmul float32": work * dense, "copy": 1e12}
    one = record("sparse", spec, all_pairs=all_pairs, work=claimed)
    assert [each.name for each in findings([one])] == ["dense-simulated sparsity"] * found


def test_an_attention_without_padding_is_named_where_it_was_measured():
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


def test_a_realistic_run_differs_in_nothing_but_what_it_says():
    assert {one.name for one in findings(synthetic.realistic().records)} <= {"parameters"}
    rng = np.random.default_rng(0)
    models = [synthetic.model("yoso", name, 512, rng, "forward", "encoder") for name in ("yoso", "sdpa")]
    assert findings(models) == []


@pytest.mark.parametrize("path", RUNS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_published_runs_can_be_read(path):
    """The first of them were written before there were conditions."""
    run = store.load(path)
    known = {one.case_id for one in run.records}
    assert all(set(each.cases) <= known for each in findings(run.records))
