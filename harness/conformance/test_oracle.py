"""The harness's own verification: outputs and gradients against the plugin's oracle in float64."""

from typing import get_args

import pytest

from harness.conformance.attention import Attention
from harness.core.spec import Dtype
from harness.measure import inputs, verify

AWKWARD = (1, 7, 33, 1000)
LONG = 4096


def _failures(attention: Attention, **changes: object) -> list[str]:
    spec = attention.spec(**changes)
    return verify.failures(verify.check(attention.plugin, spec, attention.build(spec), inputs.make(spec)))


def _advice(failures: list[str], what: str) -> str:
    return (
        f"{what}: {'; '.join(failures)}. Errors are relative to the oracle in float64; twice what the oracle itself "
        "loses in this dtype is allowed. Mend the module, or the oracle if that is what departs from the definition"
    )


@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_output_equals_the_oracles(attention: Attention, padding: float) -> None:
    """Also in a second call with other numbers, in a repeated call, and with padded keys made large."""
    failures = _failures(attention, padding=padding)
    assert not failures, _advice(failures, "the output is not the oracle's")


@pytest.mark.parametrize("padding", [0.0, 0.25])
def test_gradients_equal_the_oracles(attention: Attention, padding: float) -> None:
    """Gradients of q, k and v at every position."""
    attention.needs("backward")
    failures = [one for one in _failures(attention, padding=padding, mode="forward_backward") if "grad" in one]
    assert not failures, _advice(failures, "the gradients are not the oracle's")


@pytest.mark.parametrize("seq_len", AWKWARD)
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_awkward_lengths(attention: Attention, seq_len: int, mode: str) -> None:
    """No multiple of a block: right, or declared unsupported."""
    failures = _failures(attention, seq_len=seq_len, mode=mode)
    assert not failures, _advice(failures, f"wrong at n={seq_len}; mend it or give a reason in `unsupported`")


@pytest.mark.parametrize("dtype", get_args(Dtype))
def test_every_declared_dtype(attention: Attention, dtype: str) -> None:
    """What ``capabilities.dtypes`` names runs and is right."""
    if dtype not in attention.plugin.capabilities.dtypes:
        pytest.skip(f"{dtype} is not declared: {attention.plugin.capabilities.reason('dtypes')}")
    failures = _failures(attention, dtype=dtype)
    assert not failures, _advice(failures, f"wrong in {dtype}; mend it or take it from `capabilities.dtypes`")


def test_a_long_sequence(attention: Attention) -> None:
    """Finite and right at a length where sums and products overflow, and windows and blocks are many."""
    failures = _failures(attention, seq_len=LONG, batch=1, heads=1)
    assert not failures, _advice(failures, f"wrong at n={LONG}; sum in float32, or subtract a maximum first")
