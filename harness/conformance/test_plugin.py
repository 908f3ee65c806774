"""The plugin itself: it loads, its metadata is complete, and it answers for any spec."""

from collections.abc import Mapping
from typing import get_args

import pytest
import torch

from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.conformance.attention_under_test import SIZES, AttentionUnderTest
from harness.core import audit, registry
from harness.core.plugin import torch_dtype
from harness.core.spec import Dtype, ModelSpec, OperationSpec, QualitySpec, TaskSpec
from harness.measure.sampled_rows import relative_error

PADDED_KEYS = 9
FLOAT64_ROUNDING = 1e-12
"""Allowed relative difference of two float64 computations of softmax attention; rounding causes about 1e-15."""


def test_plugin_loads(attention_name: str) -> None:
    """The entry point imports and gives a plugin of that name."""
    try:
        registry.get(attention_name)
    except registry.RegistryError as error:
        pytest.fail(f"{error}; fix the module or the entry point in your pyproject.toml", pytrace=False)


def test_metadata_is_complete(attention: AttentionUnderTest) -> None:
    """The one-line summary, the source, and the names of the estimated attention and of the budget knob."""
    plugin = attention.plugin
    assert plugin.summary.strip(), "`summary` is empty; say in one line what the attention computes and its complexity"
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
def test_plugin_answers_for_every_spec_kind(attention: AttentionUnderTest, kind: type) -> None:
    """``unsupported``, ``knobs``, ``kernel`` and ``cost`` accept any spec and return the documented types."""
    plugin = attention.plugin
    spec = kind(attention=plugin.name, seq_len=SIZES["seq_len"], device=attention.device, dtype=attention.dtype)
    reasons = plugin.unsupported(spec)
    assert isinstance(reasons, list), f"`unsupported` must return a list of reasons, got {type(reasons).__name__}"
    assert all(isinstance(reason, str) and reason.strip() for reason in reasons), (
        f"`unsupported` must return sentences, got {reasons}"
    )
    plugin.knobs(spec)
    if reasons:
        return
    kernel = plugin.kernel(spec)
    assert isinstance(kernel, str), f"`kernel` must return the implementation's name, got {type(kernel).__name__}"
    cost = plugin.cost(spec)
    assert cost is None or isinstance(cost, Mapping), f"`cost` must be a mapping or None, got {type(cost).__name__}"
    assert all(work >= 0 for work in (cost or {}).values()), f"`cost` must not have negative amounts, got {cost}"


def test_kernel_error_is_small(attention: AttentionUnderTest) -> None:
    """``kernel_error`` is for fast exponentials and the like; a larger one would allow wrong outputs."""
    findings = audit.kernel_error_findings(attention.plugin)
    assert not findings, "; ".join(findings)


def test_unsupported_gives_declared_reasons(attention: AttentionUnderTest) -> None:
    """Most cases that ``capabilities`` allow are supported, unless hardware or software is missing."""
    findings = audit.support_findings(attention.plugin)
    assert not findings, "; ".join(findings)


def test_oracle_does_not_call_module(attention: AttentionUnderTest) -> None:
    """An oracle that calls the module which ``build`` returns compares the module with itself."""
    findings = audit.oracle_findings(attention.plugin, attention.spec())
    assert not findings, "; ".join(findings)


def test_oracle_rounds_little(attention: AttentionUnderTest) -> None:
    """The oracle is not rough: the module may be as wrong as the oracle's rounding explains."""
    findings = audit.rounding_findings(attention.plugin, attention.spec())
    assert not findings, findings[0]


def test_unknown_knob_is_refused(attention: AttentionUnderTest) -> None:
    """A misspelled knob raises, so that a case is not measured as if the knob had been set."""
    spec = OperationSpec(attention=attention.plugin.name, seq_len=16, knobs={"no_such_knob": 1})
    with pytest.raises(ValueError, match="no_such_knob"):
        attention.plugin.knobs(spec)


def test_declared_devices_and_dtypes_exist(attention: AttentionUnderTest) -> None:
    """Declared devices are torch device types, and declared dtypes are the harness's names of dtypes."""
    declared = attention.plugin.capabilities
    for device in declared.devices:
        assert torch.device(device).type == device, f"`devices` must be types such as 'cpu', got {device!r}"
    unknown = sorted(set(declared.dtypes) - set(get_args(Dtype)))
    assert not unknown, f"`dtypes` must be among {', '.join(get_args(Dtype))}, got {unknown}"


def test_oracle_returns_requested_rows(attention: AttentionUnderTest) -> None:
    """``[B, H, R, D]`` in the dtype of the inputs, differentiable."""
    spec = attention.spec()
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    for dtype in (torch.float64, torch_dtype(spec.dtype)):
        q, k, v = (torch.randn(shape, device=spec.device).to(dtype).requires_grad_() for _ in range(3))
        rows = torch.tensor([0, 3, spec.seq_len - 1], device=spec.device)
        torch.manual_seed(0)
        with torch.device(spec.device):
            output = attention.plugin.oracle(spec, q, k, v, None, rows)
        expected = [spec.batch, spec.heads, 3, spec.head_dim]
        assert (output.dtype, list(output.shape)) == (dtype, expected), (
            f"`oracle` must return {expected} in {dtype}, got {list(output.shape)} in {output.dtype}; compute at the "
            "query positions `rows` only and do not cast"
        )
        assert output.requires_grad, "`oracle` must be differentiable in q, k and v: the verifier uses its gradients"


def test_exact_softmax_has_softmax_oracle(attention: AttentionUnderTest) -> None:
    """The oracle of a plugin that declares ``exact_softmax`` is softmax attention, with and without padding.

    That the module matches its oracle is for other tests. This test also runs where the module is unsupported, because
    an oracle needs no kernel.
    """
    if not attention.plugin.exact_softmax:
        pytest.skip("exact_softmax is not declared")
    spec = attention.unchecked_spec(padding=PADDED_KEYS / SIZES["seq_len"])
    shape = (spec.batch, spec.heads, spec.seq_len, spec.head_dim)
    q, k, v = (torch.randn(shape, device=spec.device, dtype=torch.float64) for _ in range(3))
    rows = torch.arange(spec.seq_len, device=spec.device)
    mask = (rows < spec.seq_len - PADDED_KEYS).expand(spec.batch, -1)
    for name, key_padding_mask in (("without padding", None), ("with padding", mask)):
        with torch.device(spec.device):
            output = attention.plugin.oracle(spec, q, k, v, key_padding_mask, rows)
        error = relative_error(output, softmax_attention(q, k, v, key_padding_mask, rows))
        assert error <= FLOAT64_ROUNDING, (
            f"`exact_softmax` is declared, but {name} the oracle differs from softmax attention by {error:.3g}, "
            f"allowed {FLOAT64_ROUNDING:.3g}; fix the oracle or do not declare exact_softmax"
        )
