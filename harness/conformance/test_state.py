"""A call is a function of its inputs and of torch's seed: nothing is left from a call before."""

import gc
import weakref

import pytest
import torch

from harness.conformance.attention import (
    Attention,
    call,
    call_with_gradients,
    copied,
    differences,
    other,
    results,
    same_bits,
)
from harness.measure import inputs
from harness.measure.sampled_rows import relative_error

MOVED = 0.1
"""An output of other values is at least so far away; independent values give about 1.4."""


def test_equal_seeds_give_equal_bits(attention: Attention) -> None:
    """Forward, and backward where it has one, as ``deterministic`` declares."""
    attention.needs("deterministic")
    spec = attention.spec(mode="forward_backward" if attention.declares("backward") else "forward")
    module, given = attention.build(spec), inputs.make(spec)
    runs = [results(module, given, spec) for _ in range(3)]
    apart = max(relative_error(one, first) for run in runs for one, first in zip(run, runs[0], strict=True))
    assert all(same_bits(run, runs[0]) for run in runs), (
        f"equal inputs and an equal seed gave other bits (relative difference {apart:.3g}); draw random numbers from "
        "torch's default CPU generator only, or declare deterministic=False with a reason"
    )


def test_calls_between_leave_nothing(attention: Attention) -> None:
    """The same input twice, with other inputs and a call with gradients between."""
    spec = attention.spec()
    module, given = attention.build(spec), inputs.make(spec)
    first = call(module, given)
    kept = first.clone()
    for seed in range(3):
        call(module, other(spec), seed)
    if attention.declares("backward"):
        call_with_gradients(module, other(spec))
    error, allowed = relative_error(call(module, given), kept), attention.allowed(spec, given)
    assert error <= allowed, (
        f"the same input gave an output {error:.3g} away after other calls, allowed {allowed:.3g}; keep no state "
        "between calls"
    )


def test_the_order_of_calls_does_not_matter(attention: Attention) -> None:
    """Two inputs in both orders, each order on a module of its own with the same weights."""
    spec = attention.spec()
    one, two = inputs.make(spec), other(spec)
    module = attention.build(spec)
    again = attention.twin(module, spec)
    forth = [call(module, given).clone() for given in (one, two)]
    back = [call(again, given).clone() for given in (two, one)]
    allowed = attention.allowed(spec, one)
    for name, ours, theirs in zip(("first", "second"), forth, reversed(back), strict=True):
        error = relative_error(theirs, ours)
        assert error <= allowed, (
            f"the {name} input gave outputs {error:.3g} apart in two orders of calls, allowed {allowed:.3g}; keep no "
            "state between calls"
        )


def test_other_values_of_the_same_shape_give_another_output(attention: Attention) -> None:
    """No output is kept by shape."""
    spec = attention.spec()
    module = attention.build(spec)
    first = call(module, inputs.make(spec)).clone()
    error = relative_error(call(module, other(spec)), first)
    assert error > MOVED, (
        f"other values of the same shape moved the output by {error:.3g} only, expected more than {MOVED}; an output "
        "must not be kept for the next call"
    )


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_inputs_changed_in_place_are_read_again(attention: Attention, name: str, mode: str) -> None:
    """Other numbers at the same address give what they give in fresh memory."""
    spec = attention.spec(mode=mode)
    module, given = attention.build(spec), inputs.make(spec)
    results(module, given, spec)
    getattr(given, name).copy_(getattr(other(spec), name))
    in_place = [one.clone() for one in results(module, given, spec)]
    fresh = results(attention.twin(module, spec), copied(given), spec)
    apart = differences(in_place, fresh, attention.allowed(spec, given))
    assert not apart, (
        f"after `{name}` changed in place the results are not those of the same numbers in fresh memory: "
        f"{'; '.join(apart)}; keep nothing by a tensor's address, shape or identity"
    )


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_no_tensor_of_a_call_is_kept(attention: Attention, mode: str) -> None:
    """Inputs and outputs are free when the caller lets them go."""
    spec = attention.spec(mode=mode)
    module = attention.build(spec)
    given = inputs.make(spec)
    found = results(module, given, spec)
    held = {"q": given.q, "k": given.k, "v": given.v, "the output": found[0]}
    storages = {name: weakref.ref(one.untyped_storage()) for name, one in held.items()}
    tensors = {name: weakref.ref(one) for name, one in held.items()}
    del given, found, held

    def left() -> list[str]:
        return sorted(name for name in tensors if tensors[name]() is not None or storages[name]() is not None)

    if left():
        gc.collect()  # a cycle of Python's is no cache
    kept = left()
    assert not kept, f"after the call something still holds {', '.join(kept)}; keep no tensors between calls"


def test_torchs_settings_are_left_as_they_were(attention: Attention) -> None:
    """A setting that a plugin changes would falsify every other attention's measurement."""
    spec = attention.spec()
    before = _settings()
    call(attention.build(spec), inputs.make(spec))
    after = _settings()
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    assert not changed, f"building or calling it changed torch's settings: {', '.join(changed)}; restore them"


def _settings() -> dict[str, object]:
    return {
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
    }
