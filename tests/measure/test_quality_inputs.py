"""Two kinds of made-up inputs with structure: what exact attention looks like on them, and how estimates perform."""

import math
import re
from functools import cache
from itertools import product
from pathlib import Path
from statistics import median

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn.functional import normalize

from harness.core import registry
from harness.core.spec import AnySpec, QualitySpec
from harness.core.store import load
from harness.measure import inputs, quality
from harness.measure.inputs import Inputs

ROOT = Path(__file__).parents[2]
N = 512


def spec_of(kind: str, attention: str = "softmax", **changes: object) -> QualitySpec:
    return QualitySpec.model_validate({"attention": attention, "seq_len": N, "inputs": kind} | changes)


@cache
def inputs_of(kind: str) -> Inputs:
    return inputs.make(spec_of(kind, heads=4))


def weights(attention: str, drawn: Inputs) -> Tensor:
    """``[1, H, N, N]`` in float64; each row sums to 1."""
    q, k = drawn.q.double(), drawn.k.double()
    if attention == "softmax":
        return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    angle = (normalize(q, dim=-1) @ normalize(k, dim=-1).mT).clamp(-1, 1).arccos()
    expectation = (1 - angle / math.pi) ** 9
    return expectation / expectation.sum(-1, keepdim=True)


def perplexity(rows: Tensor) -> float:
    """The effective number of tokens that attention is spread over: exp of the mean entropy of its rows."""
    return math.exp(-torch.special.xlogy(rows, rows).sum(-1).mean().item())


def rank(matrices: Tensor) -> float:
    """How many singular values hold 99% of the sum of squares, as the mean over heads."""
    squares = torch.linalg.svdvals(matrices).square().cumsum(-1)
    return (squares < 0.99 * squares[..., -1:]).sum(-1).add(1).double().mean().item()


def structure(attention: str, drawn: Inputs) -> float:
    """The norm of the output over the norm of the same weights times independent random values."""
    noise = torch.randn(drawn.v.shape, generator=torch.Generator().manual_seed(1)).double()
    rows = weights(attention, drawn)
    return ((rows @ drawn.v.double()).norm() / (rows @ noise).norm()).item()


def errors_of(name: str, knob: str, budget: int, kind: str, what: str = "output", draws: int = 4) -> float:
    spec = spec_of(kind, name, knobs={knob: budget}, draws=draws)
    plugin = registry.get(name)
    return median(quality.errors(plugin, spec, plugin.build(spec), inputs.make(spec))[0].errors[what])


def test_matched_inputs_have_not_changed() -> None:
    matched = inputs.make(spec_of("matched", seed=3))
    q, k, v, grad = inputs.draw((1, 2, N, 64), 3, "cpu")
    assert torch.equal(matched.q, 0.9 * k + math.sqrt(1 - 0.9**2) * q)
    assert all(torch.equal(a, b) for a, b in ((matched.k, k), (matched.v, v), (matched.grad, grad)))


def test_records_without_the_inputs_field_are_matched_and_keep_their_case_ids() -> None:
    old = {"kind": "quality", "attention": "yoso", "seq_len": 512, "knobs": {"num_hash": 8}, "draws": 4}
    spec = TypeAdapter[AnySpec](AnySpec).validate_python(old)
    assert isinstance(spec, QualitySpec)
    assert spec.inputs == "matched"
    assert spec.case_id == "quality/yoso-n512-b1-h2-d64-draws4-cos0.9-fp32-cpu-num_hash=8"
    other = spec.model_copy(update={"inputs": "clustered"})
    assert other.case_id == "quality/yoso-n512-b1-h2-d64-draws4-clustered-cos0.9-fp32-cpu-num_hash=8"
    stored = [
        record for record in load(ROOT / "reports/cpu-standard/run.json").records if record.spec.kind == "quality"
    ]
    assert len(stored) > 50
    assert all(record.spec.case_id == record.case_id and record.spec.inputs == "matched" for record in stored)


@pytest.mark.parametrize("kind", ["matched", "clustered"])
def test_the_inputs_depend_only_on_the_seed(kind: str) -> None:
    one, two, other = (inputs.make(spec_of(kind, seed=seed, seq_len=40)) for seed in (5, 5, 6))
    for name in ("q", "k", "v", "grad"):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("head_dim", [64, 128])
def test_clustered_rows_have_their_cosine_with_a_centre(head_dim: int) -> None:
    """Two rows of one cluster have the squared cosine with each other; q and k of one position share a cluster."""
    clustered = inputs.make(spec_of("clustered", similarity=0.8, head_dim=head_dim, seq_len=4096, heads=1))
    q, k, v, grad = (x[0, 0].double() for x in (clustered.q, clustered.k, clustered.v, clustered.grad))

    def cosine(x: Tensor, y: Tensor) -> Tensor:
        return (normalize(x, dim=-1) * normalize(y, dim=-1)).sum(-1)

    assert cosine(q, k).mean().item() == pytest.approx(0.64, abs=0.03)
    for x in (q, k, v, grad):
        near = cosine(x[:-1], x[1:]) > 0.32
        assert 1 - near.double().mean().item() == pytest.approx(15 / 16 / 16, abs=0.03)  # changes of cluster
    assert cosine(q, v).mean().abs() < 0.1, "values must be independent of the keys"
    logits = q.norm(dim=-1) * k.norm(dim=-1) / math.sqrt(head_dim)
    assert logits.mean().item() == pytest.approx(inputs.ALIGNED_LOGIT, rel=0.1)
    assert v.std().item() == pytest.approx(1, abs=0.1)


def error_of_the_mean(attention: str, drawn: Inputs) -> float:
    """The relative error of the plain mean of the values; for YOSO-E of its direction, as its outputs have length 1."""
    v = drawn.v.double()
    true, mean = weights(attention, drawn) @ v, v.mean(-2, keepdim=True)
    if attention == "yoso_e":
        true, mean = normalize(true, dim=-1), normalize(mean, dim=-1)
    return ((mean - true).norm() / true.norm()).item()


TABLE_ROW = re.compile(r"\| (sharp|smooth), (softmax|yoso_e) \| (\d+) \| (\d+) \| ([\d.]+) \| (\d+)% \|")
KINDS = {"sharp": "matched", "smooth": "clustered"}
DOCUMENTED = TABLE_ROW.findall((ROOT / "docs/errors.md").read_text(encoding="utf-8"))


def test_the_page_has_both_attentions_on_both_kinds() -> None:
    assert {(kind, attention) for kind, attention, *_ in DOCUMENTED} == set(product(KINDS, ("softmax", "yoso_e")))


@pytest.mark.parametrize(("kind", "attention", "tokens", "full_rank", "ratio", "mean_error"), DOCUMENTED)
def test_the_numbers_of_the_page_are_right(
    kind: str, attention: str, tokens: str, full_rank: str, ratio: str, mean_error: str
) -> None:
    drawn = inputs_of(KINDS[kind])
    rows = weights(attention, drawn)
    assert perplexity(rows) == pytest.approx(float(tokens), rel=0.1)
    assert rank(rows[0]) == pytest.approx(float(full_rank), rel=0.1)
    assert structure(attention, drawn) == pytest.approx(float(ratio), rel=0.1)
    assert 100 * error_of_the_mean(attention, drawn) == pytest.approx(float(mean_error), rel=0.1)


def test_sharp_attention_has_full_rank_and_a_dominant_token_and_smooth_attention_has_neither() -> None:
    sharp, smooth = (weights("softmax", inputs_of(kind)) for kind in ("matched", "clustered"))
    assert sharp.diagonal(dim1=-2, dim2=-1).mean() > 0.5
    assert rank(sharp[0]) > 0.75 * N
    assert smooth.amax(-1).mean() < 0.1, "a broad head must give no token more than a tenth of the weight"
    assert rank(smooth[0]) < 2 * inputs.CLUSTERS


@pytest.mark.parametrize(("name", "knob"), [("nystromformer", "num_landmarks"), ("performer_softmax", "num_features")])
def test_landmarks_and_features_approximate_smooth_attention_and_not_sharp_attention(name: str, knob: str) -> None:
    few, many = (errors_of(name, knob, budget, "clustered") for budget in (8, 256))
    assert many < 0.6 * few
    assert many < 0.6 * error_of_the_mean("softmax", inputs_of("clustered")), "it must beat the plain mean"
    assert errors_of(name, knob, 64, "matched") > 0.9


@pytest.mark.parametrize("kind", ["matched", "clustered"])
def test_four_times_the_hashes_halve_the_error_of_yoso_on_both_kinds(kind: str) -> None:
    few, many = (errors_of("yoso", "num_hash", budget, kind, "grad_v", draws=8) for budget in (256, 1024))
    assert many == pytest.approx(few / 2, rel=0.15)


def test_the_budget_is_not_checked_where_every_budget_gives_the_same_output():
    for sizes in ({"seq_len": 1}, {"seq_len": 16, "head_dim": 1}):
        spec = QualitySpec(attention="performer_softmax", heads=1, draws=1, **sizes)
        reason = quality.check_budget(registry.get(spec.attention), spec, inputs.make(spec))
        assert reason == "of one token, and of heads of one number, every budget may give the same output"
