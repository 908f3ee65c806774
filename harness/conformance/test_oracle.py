"""Outputs and gradients match the plugin's oracle in float64, as the harness verifies them before it measures."""

from typing import get_args

import pytest

from harness.conformance.attention_under_test import AttentionUnderTest
from harness.core.spec import Dtype
from harness.measure import inputs, neighbours, parameter_gradients, verify

UNALIGNED_LENGTHS = (1, 7, 33, 1000)
LONG = 4096


def _failures(attention: AttentionUnderTest, **changes: object) -> list[str]:
    spec = attention.spec(**changes)
    return attention.failures(verify.check(attention.plugin, spec, attention.build(spec), inputs.make(spec)))


def _message(failures: list[str], what: str) -> str:
    return (
        f"{what}: {'; '.join(failures)}. Errors are relative to the oracle in float64; the allowed error is twice that "
        "of the oracle in this dtype. Fix the module, or the oracle if the oracle departs from the definition"
    )


@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_output_matches_oracle(attention: AttentionUnderTest, padding: float) -> None:
    """Also in a second call with other values, in a repeated call, and with large values in padded keys."""
    failures = _failures(attention, padding=padding)
    assert not failures, _message(failures, "the output does not match the oracle's")


@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_gradients_match_oracle(attention: AttentionUnderTest, padding: float) -> None:
    """Gradients of q, k and v at every position."""
    attention.require("backward")
    spec = attention.spec(padding=padding, mode="forward_backward")
    checks = verify.check(attention.plugin, spec, attention.build(spec), inputs.make(spec))
    failures = attention.failures([check for check in checks if "grad" in check.what])
    assert not failures, _message(failures, "the gradients do not match the oracle's")


def test_gradients_of_weights(attention: AttentionUnderTest) -> None:
    """The attention's own weights, if it has any, get gradients that are the derivatives of the output."""
    attention.require("backward")
    spec = attention.spec(mode="forward_backward")
    module = attention.build(spec).train()
    failures = attention.failures(parameter_gradients.check(attention.plugin, spec, module, inputs.make(spec)))
    assert not failures, _message(failures, "wrong gradients of weights; a weight that is not trained is a buffer")


@pytest.mark.parametrize("seq_len", UNALIGNED_LENGTHS)
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_unaligned_lengths(attention: AttentionUnderTest, seq_len: int, mode: str) -> None:
    """Lengths that are no multiple of a kernel's block size are correct, or declared unsupported."""
    failures = _failures(attention, seq_len=seq_len, mode=mode)
    assert not failures, _message(failures, f"wrong at n={seq_len}; fix it or give a reason in `unsupported`")


def test_neighbouring_sizes(attention: AttentionUnderTest) -> None:
    """Other head sizes, batches and paddings are correct, too, as far as the plugin supports them."""
    spec = attention.spec(mode="forward_backward" if attention.declares("backward") else "forward")
    failures = attention.failures(neighbours.check(attention.plugin, spec))
    assert not failures, _message(failures, "wrong at other sizes; fix them or give a reason in `unsupported`")


@pytest.mark.parametrize("dtype", get_args(Dtype))
def test_every_declared_dtype(attention: AttentionUnderTest, dtype: str) -> None:
    """Every dtype in ``capabilities.dtypes`` runs and is correct."""
    if dtype not in attention.plugin.capabilities.dtypes:
        pytest.skip(f"{dtype} is not declared: {attention.plugin.capabilities.reason('dtypes')}")
    failures = _failures(attention, dtype=dtype)
    assert not failures, _message(failures, f"wrong in {dtype}; fix it or remove it from `capabilities.dtypes`")


def test_long_sequence(attention: AttentionUnderTest) -> None:
    """Finite and correct at a length where sums and products can overflow and there are many blocks and windows."""
    failures = _failures(attention, seq_len=LONG, batch=1, heads=1)
    assert not failures, _message(failures, f"wrong at n={LONG}; sum in float32, or subtract a maximum first")
