"""Padded tokens do not change the outputs of real tokens, wherever they are in the sequence."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from harness.conformance.attention_under_test import AttentionUnderTest, call
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import relative_error

POSITIONS = ("end", "front", "middle")
"""Where in the sequence the padding is."""


def _mask(spec: OperationSpec, position: str) -> Tensor:
    """bool ``[B, N]``: a quarter of the first sequence is padding, and an eighth of the others."""
    n = spec.seq_len
    index = torch.arange(n).expand(spec.batch, -1)
    padded = torch.full((spec.batch, 1), n // 8)
    padded[0] = n // 4
    first = {"end": n - padded, "front": torch.zeros_like(padded), "middle": (n - padded) // 2}[position]
    return ((index < first) | (index >= first + padded)).to(spec.device)


def _padded(attention: AttentionUnderTest, position: str) -> tuple[OperationSpec, Inputs]:
    attention.require("padding_mask")
    spec = attention.spec(padding=0.25)
    return spec, replace(inputs.make(spec), key_padding_mask=_mask(spec, position))


@pytest.mark.parametrize("position", POSITIONS)
def test_padded_keys_do_not_change_real_outputs(attention: AttentionUnderTest, position: str) -> None:
    """Making padded keys and values a hundred times larger does not change the outputs at real positions."""
    spec, tensors = _padded(attention, position)
    mask = tensors.key_padding_mask
    assert mask is not None
    scale = torch.where(mask, 1.0, verify.PADDED_SCALE)[:, None, :, None].to(tensors.k.dtype)
    module = attention.build(spec)
    before = call(module, tensors)
    after = call(module, replace(tensors, k=tensors.k * scale, v=tensors.v * scale))
    error, allowed = _error_at_real_tokens(after, before, mask), attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"padding at the {position}: outputs of real tokens changed by {error:.3g} when padded keys and values did, "
        f"allowed {allowed:.3g}; leave out keys where key_padding_mask is False, or declare padding_mask=False"
    )


@pytest.mark.parametrize("position", POSITIONS)
def test_output_with_padding_matches_oracle(attention: AttentionUnderTest, position: str) -> None:
    """With padding at the end, at the front, or in the middle of the sequences."""
    spec, tensors = _padded(attention, position)
    failures = attention.failures(verify.check(attention.plugin, spec, attention.build(spec), tensors))
    assert not failures, f"padding at the {position}: {'; '.join(failures)}; key_padding_mask is True for real tokens"


@pytest.mark.parametrize(("front", "end"), [(0.0, 0.25), (0.0, 0.875), (0.25, 0.0), (0.875, 0.0)])
def test_real_tokens_get_what_their_sequence_gets_alone(
    attention: AttentionUnderTest, front: float, end: float
) -> None:
    """With parts of the sequence as padding at its front or end, the output is the oracle's without the padding."""
    attention.require("padding_mask")
    attention.require("padding_width")
    spec = attention.spec(padding=max(front, end), batch=1)
    real = slice(round(front * spec.seq_len), round((1 - end) * spec.seq_len))
    tensors = inputs.make(spec)
    mask = torch.zeros(1, spec.seq_len, dtype=torch.bool, device=spec.device)
    mask[:, real] = True
    tensors = replace(tensors, key_padding_mask=mask)
    output = call(attention.build(spec), tensors)[:, :, real]
    q, k, v = (x[:, :, real].double() for x in (tensors.q, tensors.k, tensors.v))
    torch.manual_seed(0)
    with torch.device(spec.device):
        alone = attention.plugin.oracle(spec, q, k, v, None, torch.arange(q.shape[2], device=spec.device))
    error, allowed = relative_error(output, alone), attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"of {spec.seq_len} tokens {spec.seq_len - q.shape[2]} are padding at the {'front' if front else 'end'}: the "
        f"output at real tokens differs by {error:.3g} from the oracle's for the {q.shape[2]} real tokens alone, "
        f"allowed {allowed:.3g}; count real tokens only, or declare padding_width=False with its reason"
    )


def test_all_true_mask_equals_no_mask(attention: AttentionUnderTest) -> None:
    """A mask without padding gives the output of a call without a mask."""
    attention.require("padding_mask")
    spec = attention.spec(padding=0.25)
    tensors = replace(inputs.make(spec), key_padding_mask=None)
    all_true = torch.ones(spec.batch, spec.seq_len, dtype=torch.bool, device=spec.device)
    module = attention.build(spec)
    error = relative_error(call(module, replace(tensors, key_padding_mask=all_true)), call(module, tensors))
    allowed = attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"a mask that is True everywhere changes the output by {error:.3g}, allowed {allowed:.3g}; treat it like None"
    )


def test_fully_padded_sequence_does_not_change_others(attention: AttentionUnderTest) -> None:
    """The outputs of the other sequences do not depend on whether one sequence has only padding."""
    spec, tensors, last_padded = _with_fully_padded_sequence(attention)
    module = attention.build(spec)
    before, after = call(module, tensors), call(module, last_padded)
    error, allowed = relative_error(after[:-1], before[:-1]), attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"a sequence with only padding changed the outputs of the others by {error:.3g}, allowed {allowed:.3g}; "
        "reduce over the tokens of one sequence only"
    )


def test_fully_padded_sequence_gives_finite_output(attention: AttentionUnderTest) -> None:
    """The output of padding is unspecified, but a NaN there would reach every weight in a training step."""
    spec, _, last_padded = _with_fully_padded_sequence(attention)
    out = call(attention.build(spec), last_padded)[-1]
    not_finite = int((~out.isfinite()).sum())
    assert not not_finite, (
        f"a sequence with only padding gives {not_finite} of {out.numel()} values that are not finite, expected none; "
        "fill masked scores with torch.finfo(dtype).min instead of -inf, or keep the denominator above zero"
    )


def _with_fully_padded_sequence(attention: AttentionUnderTest) -> tuple[OperationSpec, Inputs, Inputs]:
    """The spec, inputs with padding at the end, and the same inputs with only padding in the last sequence."""
    spec, tensors = _padded(attention, "end")
    mask = _mask(spec, "end")
    mask[-1] = False
    return spec, tensors, replace(tensors, key_padding_mask=mask)


def _error_at_real_tokens(actual: Tensor, expected: Tensor, mask: Tensor) -> float:
    real = mask[:, None, :, None].expand_as(actual)
    return relative_error(actual[real], expected[real])
