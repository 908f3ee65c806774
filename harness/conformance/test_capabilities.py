"""What the plugin declares is what its module does."""

from dataclasses import replace
from typing import Any, cast, get_args

import pytest
import torch
from torch import nn

from harness.conformance.attention import SIZES, Attention, call, differences, results
from harness.core.spec import Dtype, OperationSpec
from harness.measure import inputs
from harness.measure.sampled_rows import relative_error

SHORTER = 100


def _reasons(attention: Attention, **changes: Any) -> list[str]:
    given = {"attention": attention.plugin.name, "device": attention.device, "dtype": attention.dtype} | SIZES | changes
    return attention.plugin.unsupported(OperationSpec.model_validate(given))


@pytest.mark.parametrize(
    ("ability", "changes"), [("padding_mask", {"padding": 0.25}), ("backward", {"mode": "forward_backward"})]
)
def test_a_declared_no_is_a_reason_for_the_case(attention: Attention, ability: str, changes: dict[str, Any]) -> None:
    """The matrix and ``unsupported`` say the same."""
    assert attention.declares(ability) or _reasons(attention, **changes), (
        f"`capabilities` declare no {ability} on {attention.device}, but `unsupported` has no reason against "
        f"{changes}; make the two agree"
    )


@pytest.mark.parametrize("dtype", get_args(Dtype))
def test_a_dtype_that_is_not_declared_is_a_reason_for_the_case(attention: Attention, dtype: str) -> None:
    """As for the other abilities."""
    declared = attention.plugin.capabilities
    fits = dtype in declared.dtypes and torch.device(attention.device).type in declared.devices
    assert fits or _reasons(attention, dtype=dtype), (
        f"`capabilities` do not declare {dtype} on {attention.device}, but `unsupported` has no reason against it; "
        "make the two agree"
    )


@pytest.mark.parametrize(("n_q", "n_k"), [(SIZES["seq_len"], SHORTER), (SHORTER, SIZES["seq_len"])])
def test_cross_attention(attention: Attention, n_q: int, n_k: int) -> None:
    """Other queries than keys, a part of the keys padded."""
    attention.needs("cross_attention")
    spec = attention.spec(padding=0.25 if attention.declares("padding_mask") else 0.0)
    whole = inputs.make(spec)
    mask = None
    if attention.declares("padding_mask"):
        mask = (torch.arange(n_k, device=spec.device) < n_k - 9).expand(spec.batch, -1).contiguous()
    q, k, v = whole.q[:, :, :n_q], whole.k[:, :, :n_k], whole.v[:, :, :n_k]
    found = call(attention.build(spec), replace(whole, q=q, k=k, v=v, key_padding_mask=mask))
    torch.manual_seed(0)
    with torch.device(spec.device):
        exact = attention.plugin.oracle(
            spec, q.double(), k.double(), v.double(), mask, torch.arange(n_q, device=spec.device)
        )
    assert found.shape == q.shape, f"the output must be {list(q.shape)} as q, got {list(found.shape)}"
    error, allowed = relative_error(found, exact), attention.allowed(spec, whole)
    assert error <= allowed, (
        f"{n_q} queries and {n_k} keys: error {error:.3g} against the oracle, allowed {allowed:.3g}; mend it or do not "
        "declare cross_attention"
    )


def test_grouped_key_heads(attention: Attention) -> None:
    """Fewer key heads than query heads give what repeated key heads give."""
    attention.needs("gqa")
    spec = attention.spec()
    given = inputs.make(spec)
    few = replace(given, k=given.k[:, :1], v=given.v[:, :1])
    wide = replace(given, k=few.k.repeat(1, spec.heads, 1, 1), v=few.v.repeat(1, spec.heads, 1, 1))
    module = attention.build(spec)
    error, allowed = relative_error(call(module, few), call(module, wide)), attention.allowed(spec, given)
    assert error <= allowed, (
        f"{spec.heads} query heads on 1 key head: {error:.3g} away from repeated key heads, allowed {allowed:.3g}; "
        "mend it or do not declare gqa"
    )


# torch 2.13 warns of what its own tracing of a torch.autograd.Function does.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_one_graph_without_a_break(attention: Attention, mode: str, padding: float) -> None:
    """``torch.compile(fullgraph=True)`` takes the module and changes nothing but rounding."""
    attention.needs("compile")
    spec = attention.spec(mode=mode, padding=padding)
    given, module = inputs.make(spec), attention.build(spec)
    torch.compiler.reset()
    compiled = cast(nn.Module, torch.compile(module, fullgraph=True, backend="eager", dynamic=False))
    apart = differences(results(compiled, given, spec), results(module, given, spec), attention.allowed(spec, given))
    assert not apart, f"the compiled module gives other results than the plain one: {'; '.join(apart)}"
