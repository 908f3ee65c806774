"""The plugin itself: it loads, says what it is, and answers about any case."""

from collections.abc import Mapping
from typing import get_args

import pytest
import torch

from harness.conformance.attention import SIZES, Attention
from harness.core import registry
from harness.core.plugin import torch_dtype
from harness.core.spec import Dtype, ModelSpec, OperationSpec, QualitySpec, TaskSpec


def test_it_loads(attention_name: str) -> None:
    """The entry point imports and gives a plugin of that name."""
    try:
        registry.get(attention_name)
    except registry.RegistryError as error:
        pytest.fail(f"{error}; mend the module or the entry point in your pyproject.toml", pytrace=False)


def test_it_says_what_it_is(attention: Attention) -> None:
    """One line of summary and a source, for the tables."""
    plugin = attention.plugin
    assert plugin.summary.strip(), "`summary` is empty; say in one line what it computes and what it costs"
    assert "\n" not in plugin.summary, f"`summary` must be one line, got {plugin.summary!r}"
    assert plugin.source.strip(), "`source` is empty; name the paper or package, with a link"
    known = registry.names()
    assert plugin.estimates is None or plugin.estimates in known, (
        f"`estimates` must name a registered attention or be None, got {plugin.estimates!r}; known: {', '.join(known)}"
    )
    knobs = plugin.default_knobs(OperationSpec(attention=plugin.name, seq_len=SIZES["seq_len"]))
    assert plugin.budget is None or plugin.budget in knobs, (
        f"`budget` must name a knob or be None, got {plugin.budget!r}; knobs: {', '.join(knobs)}"
    )


@pytest.mark.parametrize("kind", [OperationSpec, ModelSpec, QualitySpec, TaskSpec])
def test_it_answers_about_every_kind_of_case(attention: Attention, kind: type) -> None:
    """unsupported, knobs and cost take any spec; reasons are sentences."""
    plugin = attention.plugin
    spec = kind(attention=plugin.name, seq_len=SIZES["seq_len"], device=attention.device, dtype=attention.dtype)
    reasons = plugin.unsupported(spec)
    assert isinstance(reasons, list), f"`unsupported` must return a list of reasons, got {type(reasons).__name__}"
    assert all(isinstance(one, str) and one.strip() for one in reasons), f"reasons must be sentences, got {reasons}"
    plugin.knobs(spec)
    if reasons:
        return
    assert isinstance(plugin.kernel(spec), str), "`kernel` must name the implementation, for the record"
    cost = plugin.cost(spec)
    assert cost is None or isinstance(cost, Mapping), f"`cost` must be a mapping or None, got {type(cost).__name__}"
    assert all(work >= 0 for work in (cost or {}).values()), f"`cost` must count work of 0 or more, got {cost}"


def test_it_refuses_a_knob_that_it_does_not_have(attention: Attention) -> None:
    """A mistyped parameter must not be measured as if it had been set."""
    spec = OperationSpec(attention=attention.plugin.name, seq_len=16, knobs={"no_such_knob": 1})
    with pytest.raises(ValueError, match="no_such_knob"):
        attention.plugin.knobs(spec)


def test_its_capabilities_name_what_torch_knows(attention: Attention) -> None:
    """Devices and dtypes as torch writes them."""
    declared = attention.plugin.capabilities
    for device in declared.devices:
        assert torch.device(device).type == device, f"`devices` must be types such as 'cpu', got {device!r}"
    unknown = sorted(set(declared.dtypes) - set(get_args(Dtype)))
    assert not unknown, f"`dtypes` must be of {', '.join(get_args(Dtype))}, got {unknown}"


def test_its_oracle_gives_the_rows_that_are_asked_for(attention: Attention) -> None:
    """``[B, H, R, D]`` in the dtype of the inputs, differentiable."""
    spec = attention.spec()
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    for dtype in (torch.float64, torch_dtype(spec.dtype)):
        q, k, v = (torch.randn(shape, device=spec.device).to(dtype).requires_grad_() for _ in range(3))
        rows = torch.tensor([0, 3, spec.seq_len - 1], device=spec.device)
        torch.manual_seed(0)
        with torch.device(spec.device):
            found = attention.plugin.oracle(spec, q, k, v, None, rows)
        wanted = [spec.batch, spec.heads, 3, spec.head_dim]
        assert (found.dtype, list(found.shape)) == (dtype, wanted), (
            f"`oracle` must give {wanted} in {dtype}, got {list(found.shape)} in {found.dtype}; compute at the query "
            "positions `rows` only and do not cast"
        )
        assert found.requires_grad, "`oracle` must be differentiable in q, k and v: the verifier takes its gradients"
