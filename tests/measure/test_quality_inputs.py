"""The two kinds of inputs of quality cases: what attention is on them, and how estimates do there."""

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
def given(kind: str) -> Inputs:
    return inputs.make(spec_of(kind, heads=4))


def weights(of: str, given: Inputs) -> Tensor:
    """``[1, H, N, N]`` in float64, each row of sum 1."""
    q, k = given.q.double(), given.k.double()
    if of == "softmax":
        return (q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1)
    angle = (normalize(q, dim=-1) @ normalize(k, dim=-1).mT).clamp(-1, 1).arccos()
    found = (1 - angle / math.pi) ** 9
    return found / found.sum(-1, keepdim=True)


def perplexity(rows: Tensor) -> float:
    """The number of tokens that attention is spread over: exp of its mean entropy."""
    return math.exp(-torch.special.xlogy(rows, rows).sum(-1).mean().item())


def rank(matrices: Tensor) -> float:
    """How many singular values have 99% of the squares' sum, mean over heads."""
    squares = torch.linalg.svdvals(matrices).square().cumsum(-1)
    return (squares < 0.99 * squares[..., -1:]).sum(-1).add(1).double().mean().item()


def share_of_structure(of: str, given: Inputs) -> float:
    """The output's norm as a multiple of what the same weights make of values that have nothing in common."""
    noise = torch.randn(given.v.shape, generator=torch.Generator().manual_seed(1)).double()
    found = weights(of, given)
    return ((found @ given.v.double()).norm() / (found @ noise).norm()).item()


def errors_of(name: str, knob: str, budget: int, kind: str, what: str = "output", draws: int = 4) -> float:
    spec = spec_of(kind, name, knobs={knob: budget}, draws=draws)
    plugin = registry.get(name)
    return median(quality.errors(plugin, spec, plugin.build(spec), inputs.make(spec)).errors[what])


def test_the_matched_kind_is_as_it_always_was() -> None:
    found = inputs.make(spec_of("matched", seed=3))
    q, k, v, grad = inputs.draw((1, 2, N, 64), 3, "cpu")
    assert torch.equal(found.q, 0.9 * k + math.sqrt(1 - 0.9**2) * q)
    assert all(torch.equal(one, other) for one, other in ((found.k, k), (found.v, v), (found.grad, grad)))


def test_records_without_the_field_are_of_the_matched_kind_and_keep_their_ids() -> None:
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
def test_the_seed_alone_decides_the_numbers(kind: str) -> None:
    one, two, other = (inputs.make(spec_of(kind, seed=seed, seq_len=40)) for seed in (5, 5, 6))
    for name in ("q", "k", "v", "grad"):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("head_dim", [64, 128])
def test_clustered_rows_are_at_their_cosine_from_one_of_the_centres(head_dim: int) -> None:
    """Two rows of one cluster are at the squared cosine of each other; q and k of one position always are."""
    found = inputs.make(spec_of("clustered", similarity=0.8, head_dim=head_dim, seq_len=4096, heads=1))
    q, k, v, grad = (x[0, 0].double() for x in (found.q, found.k, found.v, found.grad))

    def cosine(x: Tensor, y: Tensor) -> Tensor:
        return (normalize(x, dim=-1) * normalize(y, dim=-1)).sum(-1)

    assert cosine(q, k).mean().item() == pytest.approx(0.64, abs=0.03)
    for x in (q, k, v, grad):
        near = cosine(x[:-1], x[1:]) > 0.32
        assert 1 - near.double().mean().item() == pytest.approx(15 / 16 / 16, abs=0.03)  # a run that ends elsewhere
    assert cosine(q, v).mean().abs() < 0.1, "values are no copy of the keys"
    logits = q.norm(dim=-1) * k.norm(dim=-1) / math.sqrt(head_dim)
    assert logits.mean().item() == pytest.approx(inputs.LOGIT, rel=0.1)
    assert v.std().item() == pytest.approx(1, abs=0.1)


def off_the_mean(of: str, given: Inputs) -> float:
    """The relative error of the plain mean of the values; for YOSO-E of its direction, as its outputs have length 1."""
    v = given.v.double()
    true, mean = weights(of, given) @ v, v.mean(-2, keepdim=True)
    if of == "yoso_e":
        true, mean = normalize(true, dim=-1), normalize(mean, dim=-1)
    return ((mean - true).norm() / true.norm()).item()


ROW = re.compile(r"\| (sharp|smooth), (softmax|yoso_e) \| (\d+) \| (\d+) \| ([\d.]+) \| (\d+)% \|")
KINDS = {"sharp": "matched", "smooth": "clustered"}
ON_THE_PAGE = ROW.findall((ROOT / "docs/errors.md").read_text(encoding="utf-8"))


def test_the_page_has_both_attentions_on_both_kinds() -> None:
    assert {(kind, of) for kind, of, *_ in ON_THE_PAGE} == set(product(KINDS, ("softmax", "yoso_e")))


@pytest.mark.parametrize(("kind", "of", "spread", "full", "structure", "mean"), ON_THE_PAGE)
def test_attention_is_what_the_page_says(kind: str, of: str, spread: str, full: str, structure: str, mean: str) -> None:
    drawn = given(KINDS[kind])
    found = weights(of, drawn)
    assert perplexity(found) == pytest.approx(float(spread), rel=0.1)
    assert rank(found[0]) == pytest.approx(float(full), rel=0.1)
    assert share_of_structure(of, drawn) == pytest.approx(float(structure), rel=0.1)
    assert 100 * off_the_mean(of, drawn) == pytest.approx(float(mean), rel=0.1)


def test_sharp_attention_has_full_rank_and_a_favourite_and_smooth_attention_neither() -> None:
    sharp, smooth = (weights("softmax", given(kind)) for kind in ("matched", "clustered"))
    assert sharp.diagonal(dim1=-2, dim2=-1).mean() > 0.5
    assert rank(sharp[0]) > 0.75 * N
    assert smooth.amax(-1).mean() < 0.1, "a broad head gives no token more than a tenth"
    assert rank(smooth[0]) < 2 * inputs.CLUSTERS


@pytest.mark.parametrize(("name", "knob"), [("nystromformer", "num_landmarks"), ("performer_softmax", "num_features")])
def test_landmarks_and_features_find_what_smooth_attention_has_and_nothing_in_sharp(name: str, knob: str) -> None:
    few, many = (errors_of(name, knob, budget, "clustered") for budget in (8, 256))
    assert many < 0.6 * few
    assert many < 0.6 * off_the_mean("softmax", given("clustered")), "it beats the plain mean"
    assert errors_of(name, knob, 64, "matched") > 0.9


@pytest.mark.parametrize("kind", ["matched", "clustered"])
def test_four_times_the_hashes_halve_yosos_error_on_either_kind(kind: str) -> None:
    few, many = (errors_of("yoso", "num_hash", budget, kind, "grad_v", draws=8) for budget in (256, 1024))
    assert many == pytest.approx(few / 2, rel=0.15)
