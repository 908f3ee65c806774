"""Padding: what is padded must not be seen."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.conformance.attention import Attention, call
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import relative_error

WHERE = ("end", "front", "middle")


def _mask(spec: OperationSpec, where: str) -> Tensor:
    """bool ``[B, N]``: a quarter of the first sequence is padded, an eighth of the others."""
    n = spec.seq_len
    position = torch.arange(n).expand(spec.batch, -1)
    padded = torch.full((spec.batch, 1), n // 8)
    padded[0] = n // 4
    first = {"end": n - padded, "front": torch.zeros_like(padded), "middle": (n - padded) // 2}[where]
    return ((position < first) | (position >= first + padded)).to(spec.device)


def _padded(attention: Attention, where: str) -> tuple[OperationSpec, Inputs]:
    attention.needs("padding_mask")
    spec = attention.spec(padding=0.25)
    return spec, replace(inputs.make(spec), key_padding_mask=_mask(spec, where))


@pytest.mark.parametrize("where", WHERE)
def test_outputs_of_real_tokens_do_not_move(attention: Attention, where: str) -> None:
    """Padded keys and values become a hundred times larger: outputs at real positions stay."""
    spec, given = _padded(attention, where)
    mask = given.key_padding_mask
    assert mask is not None
    scale = torch.where(mask, 1.0, verify.PADDED_SCALE)[:, None, :, None].to(given.k.dtype)
    module = attention.build(spec)
    before = call(module, given)
    after = call(module, replace(given, k=given.k * scale, v=given.v * scale))
    error, allowed = _error_at_real(after, before, mask), attention.allowed(spec, given)
    assert error <= allowed, (
        f"padding at the {where}: outputs of real tokens moved by {error:.3g} when padded keys and values changed, "
        f"allowed {allowed:.3g}; leave out keys where key_padding_mask is False, or declare padding_mask=False"
    )


@pytest.mark.parametrize("where", WHERE)
def test_outputs_with_padding_equal_the_oracles(attention: Attention, where: str) -> None:
    """Wherever the padding stands."""
    spec, given = _padded(attention, where)
    failures = verify.failures(verify.check(attention.plugin, spec, attention.build(spec), given))
    assert not failures, f"padding at the {where}: {'; '.join(failures)}; key_padding_mask is True for real tokens"


def test_a_mask_of_ones_is_no_mask(attention: Attention) -> None:
    """Nothing padded, said in two ways."""
    attention.needs("padding_mask")
    spec = attention.spec(padding=0.25)
    given = replace(inputs.make(spec), key_padding_mask=None)
    ones = torch.ones(spec.batch, spec.seq_len, dtype=torch.bool, device=spec.device)
    module = attention.build(spec)
    error = relative_error(call(module, replace(given, key_padding_mask=ones)), call(module, given))
    allowed = attention.allowed(spec, given)
    assert error <= allowed, f"a mask of True alone moves the output by {error:.3g}, allowed {allowed:.3g}"


def test_a_sequence_of_padding_alone_harms_no_other(attention: Attention) -> None:
    """What the other sequences give does not depend on whether one is padding alone."""
    spec, given, whole = _one_all_padded(attention)
    module = attention.build(spec)
    before, after = call(module, given), call(module, whole)
    error, allowed = relative_error(after[:-1], before[:-1]), attention.allowed(spec, given)
    assert error <= allowed, (
        f"one sequence of padding alone moved the outputs of the others by {error:.3g}, allowed {allowed:.3g}; "
        "reduce over the tokens of one sequence alone"
    )


def test_a_sequence_of_padding_alone_is_finite(attention: Attention) -> None:
    """Its output is unspecified, but a NaN there would reach every weight in a training step."""
    spec, _, whole = _one_all_padded(attention)
    out = call(attention.build(spec), whole)[-1]
    wrong = int((~out.isfinite()).sum())
    assert not wrong, (
        f"a sequence of padding alone gives {wrong} of {out.numel()} numbers that are not finite, expected none; "
        "fill masked scores with torch.finfo(dtype).min and not with -inf, or keep a denominator above zero"
    )


def _one_all_padded(attention: Attention) -> tuple[OperationSpec, Inputs, Inputs]:
    """The spec, inputs with padding at the end, and the same with nothing but padding in the last sequence."""
    spec, given = _padded(attention, "end")
    mask = _mask(spec, "end")
    mask[-1] = False
    return spec, given, replace(given, key_padding_mask=mask)


def _error_at_real(found: Tensor, truth: Tensor, mask: Tensor) -> float:
    at = mask[:, None, :, None].expand_as(found)
    return relative_error(found[at], truth[at])
