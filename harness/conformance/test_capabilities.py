"""The module does what the plugin's ``capabilities`` declare."""

import os
import shutil
from dataclasses import replace
from typing import Any, cast, get_args

import pytest
import torch
from torch import nn

from harness.conformance.attention_under_test import (
    RESULTS,
    SIZES,
    AttentionUnderTest,
    call,
    differences,
    results,
)
from harness.core.spec import Dtype
from harness.measure import inputs
from harness.measure.sampled_rows import relative_error, run_oracle
from yoso.torch_private import import_inductor

SHORTER = 100
"""Number of queries or of keys that differs from the usual sequence length."""
PADDED_KEYS = 9


def _reasons(attention: AttentionUnderTest, **changes: Any) -> list[str]:
    return attention.plugin.unsupported(attention.unchecked_spec(**changes))


@pytest.mark.parametrize(
    ("ability", "changes"), [("padding_mask", {"padding": 0.25}), ("backward", {"mode": "forward_backward"})]
)
def test_undeclared_ability_is_unsupported(
    attention: AttentionUnderTest, ability: str, changes: dict[str, Any]
) -> None:
    """``unsupported`` gives a reason against a case that needs an ability that is not declared."""
    assert attention.declares(ability) or _reasons(attention, **changes), (
        f"`capabilities` do not declare {ability} on {attention.device}, but `unsupported` gives no reason against "
        f"{changes}; make the two agree"
    )


@pytest.mark.parametrize("dtype", get_args(Dtype))
def test_undeclared_dtype_is_unsupported(attention: AttentionUnderTest, dtype: str) -> None:
    """``unsupported`` gives a reason against a dtype or device that is not declared."""
    declared = attention.plugin.capabilities
    is_declared = dtype in declared.dtypes and torch.device(attention.device).type in declared.devices
    assert is_declared or _reasons(attention, dtype=dtype), (
        f"`capabilities` do not declare {dtype} on {attention.device}, but `unsupported` gives no reason against it; "
        "make the two agree"
    )


@pytest.mark.parametrize(("n_q", "n_k"), [(SIZES["seq_len"], SHORTER), (SHORTER, SIZES["seq_len"])])
def test_cross_attention(attention: AttentionUnderTest, n_q: int, n_k: int) -> None:
    """With different numbers of queries and keys, some of the keys padded, the output matches the oracle."""
    attention.require("cross_attention")
    spec = attention.spec(padding=0.25 if attention.declares("padding_mask") else 0.0)
    full = inputs.make(spec)
    mask = None
    if attention.declares("padding_mask"):
        mask = (torch.arange(n_k, device=spec.device) < n_k - PADDED_KEYS).expand(spec.batch, -1).contiguous()
    q, k, v = full.q[:, :, :n_q], full.k[:, :, :n_k], full.v[:, :, :n_k]
    output = call(attention.build(spec), replace(full, q=q, k=k, v=v, key_padding_mask=mask))
    torch.manual_seed(0)
    with torch.device(spec.device):
        exact = attention.plugin.oracle(
            spec, q.double(), k.double(), v.double(), mask, torch.arange(n_q, device=spec.device)
        )
    assert output.shape == q.shape, f"the output must have q's shape {list(q.shape)}, got {list(output.shape)}"
    error, allowed = relative_error(output, exact), attention.allowed(spec, full)
    assert error <= allowed, (
        f"with {n_q} queries and {n_k} keys the error against the oracle is {error:.3g}, allowed {allowed:.3g}; fix "
        "the module or do not declare cross_attention"
    )


def test_grouped_query_attention(attention: AttentionUnderTest) -> None:
    """One key and value head gives the same output as the head repeated for every query head."""
    attention.require("gqa")
    spec = attention.spec()
    tensors = inputs.make(spec)
    one_head = replace(tensors, k=tensors.k[:, :1], v=tensors.v[:, :1])
    repeated = replace(tensors, k=one_head.k.repeat(1, spec.heads, 1, 1), v=one_head.v.repeat(1, spec.heads, 1, 1))
    module = attention.build(spec)
    error, allowed = relative_error(call(module, one_head), call(module, repeated)), attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"with {spec.heads} query heads and 1 key head the output differs by {error:.3g} from that with repeated key "
        f"heads, allowed {allowed:.3g}; fix the module or do not declare gqa"
    )


@pytest.mark.parametrize("scaled", ["q and k", "v"])
@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_any_scale(attention: AttentionUnderTest, scaled: str, scale: float) -> None:
    """Very small and very large inputs give finite outputs and gradients wherever the oracle's are finite."""
    attention.require("scales")
    spec = attention.spec(mode="forward_backward" if attention.declares("backward") else "forward")
    tensors = inputs.make(spec)
    large = (tensors.q, tensors.k) if scaled == "q and k" else (tensors.v,)
    for tensor in large:
        tensor.mul_(scale)
    backward = spec.mode == "forward_backward"
    rows = torch.arange(spec.seq_len)
    exact = run_oracle(attention.plugin, spec, tensors, rows, torch.float64, backward).named()
    for name, actual, true in zip(RESULTS, results(attention.build(spec), tensors, spec), exact.values(), strict=True):
        wrong = int((true.to(actual.dtype).isfinite() & ~actual.isfinite()).sum())
        assert not wrong, (
            f"{scaled} times {scale:g} in {spec.dtype}: {wrong} of {actual.numel()} numbers of the {name} are not "
            "finite although the true ones are; compute norms, scores and sums in float32, or declare in which dtypes "
            "it holds, as in scales='float32 bfloat16', with its reason"
        )


# torch 2.13 warns about its own tracing of a torch.autograd.Function.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_compiles_without_graph_breaks(attention: AttentionUnderTest, mode: str, padding: float) -> None:
    """``torch.compile(fullgraph=True)`` compiles the module and changes its results by rounding only."""
    attention.require("compile")
    spec = attention.spec(mode=mode, padding=padding)
    tensors, module = inputs.make(spec), attention.build(spec)
    torch.compiler.reset()
    compiled = cast(nn.Module, torch.compile(module, fullgraph=True, backend="eager", dynamic=False))
    messages = differences(
        results(compiled, tensors, spec), results(module, tensors, spec), attention.allowed(spec, tensors)
    )
    assert not messages, f"the compiled module gives other results than the eager one: {'; '.join(messages)}"


@pytest.mark.filterwarnings("ignore")  # inductor's own
def test_default_backend_gives_the_same_results(attention: AttentionUnderTest) -> None:
    """``torch.compile`` with its default backend, inductor, changes the results by rounding only.

    Inductor writes kernels of its own, also for the backward pass, which the backend of the test above does not.
    """
    attention.require("compile")
    compiler = os.environ.get("CXX", "g++")
    if torch.device(attention.device).type == "cpu" and shutil.which(compiler) is None:
        pytest.skip(f"inductor needs a C++ compiler, and {compiler!r} is not on PATH")
    spec = attention.spec(
        mode="forward_backward" if attention.declares("backward") else "forward",
        padding=0.25 if attention.declares("padding_mask") else 0.0,
    )
    tensors, module = inputs.make(spec), attention.build(spec)
    import_inductor()
    torch.compiler.reset()
    # By default inductor draws other random numbers than torch from the same seed.
    options: dict[str, Any] = {"fallback_random": True}
    compiled = cast(nn.Module, torch.compile(module, fullgraph=True, dynamic=False, options=options))
    messages = differences(
        results(compiled, tensors, spec), results(module, tensors, spec), attention.allowed(spec, tensors)
    )
    assert not messages, (
        f"torch.compile with its default backend changes results: {'; '.join(messages)}; find the operation that "
        "inductor compiles wrongly and use another, or declare compile=False with its reason"
    )
