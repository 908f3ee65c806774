"""A call depends on its inputs and torch's seed only: no state is kept from earlier calls."""

import gc
import weakref

import pytest
import torch

from harness.conformance.attention_under_test import (
    AttentionUnderTest,
    call,
    call_with_gradients,
    copied,
    differences,
    other_inputs,
    results,
    same_bits,
)
from harness.measure import inputs
from harness.measure.sampled_rows import relative_error

CHANGED = 0.1
"""Smallest relative difference between the outputs of two inputs; independent outputs differ by about 1.4."""


def test_equal_seeds_give_equal_bits(attention: AttentionUnderTest) -> None:
    """Forward, and backward where it is declared, of an attention that declares ``deterministic``."""
    attention.require("deterministic")
    spec = attention.spec(mode="forward_backward" if attention.declares("backward") else "forward")
    module, tensors = attention.build(spec), inputs.make(spec)
    first, *repeats = (results(module, tensors, spec) for _ in range(3))
    error = max(relative_error(a, b) for repeat in repeats for a, b in zip(repeat, first, strict=True))
    assert all(same_bits(repeat, first) for repeat in repeats), (
        f"equal inputs and an equal seed gave different bits (relative difference {error:.3g}); draw random numbers "
        "from torch's default CPU generator only, or declare deterministic=False with a reason"
    )


def test_earlier_calls_do_not_change_output(attention: AttentionUnderTest) -> None:
    """The same input gives the same output after calls with other inputs and a call with gradients."""
    spec = attention.spec()
    module, tensors = attention.build(spec), inputs.make(spec)
    first = call(module, tensors).clone()
    for seed in range(3):
        call(module, other_inputs(spec), seed)
    if attention.declares("backward"):
        call_with_gradients(module, other_inputs(spec))
    error, allowed = relative_error(call(module, tensors), first), attention.allowed(spec, tensors)
    assert error <= allowed, (
        f"the output of the same input changed by {error:.3g} after other calls, allowed {allowed:.3g}; keep no state "
        "between calls"
    )


def test_order_of_calls_does_not_change_output(attention: AttentionUnderTest) -> None:
    """Two inputs in either order give the same outputs, on two modules with the same weights."""
    spec = attention.spec()
    first, second = inputs.make(spec), other_inputs(spec)
    module = attention.build(spec)
    copy = attention.fresh_copy(module, spec)
    first_output, second_output = (call(module, tensors).clone() for tensors in (first, second))
    second_called_first, first_called_second = (call(copy, tensors).clone() for tensors in (second, first))
    allowed = attention.allowed(spec, first)
    outputs = {"first": (first_output, first_called_second), "second": (second_output, second_called_first)}
    for name, (output, output_in_other_order) in outputs.items():
        error = relative_error(output_in_other_order, output)
        assert error <= allowed, (
            f"the outputs of the {name} input differ by {error:.3g} between the two orders of calls, allowed "
            f"{allowed:.3g}; keep no state between calls"
        )


def test_output_depends_on_the_values(attention: AttentionUnderTest) -> None:
    """Other values in inputs of the same shape give another output."""
    spec = attention.spec()
    module = attention.build(spec)
    first = call(module, inputs.make(spec)).clone()
    error = relative_error(call(module, other_inputs(spec)), first)
    assert error > CHANGED, (
        f"other values of the same shape changed the output by only {error:.3g}, expected more than {CHANGED}; do not "
        "keep an output for the next call"
    )


@pytest.mark.parametrize("name", ["q", "k", "v"])
@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_inputs_changed_in_place_are_read_again(attention: AttentionUnderTest, name: str, mode: str) -> None:
    """New values at the same address give the results that they give in newly allocated memory."""
    spec = attention.spec(mode=mode)
    module, tensors = attention.build(spec), inputs.make(spec)
    results(module, tensors, spec)
    getattr(tensors, name).copy_(getattr(other_inputs(spec), name))
    in_place = [result.clone() for result in results(module, tensors, spec)]
    newly_allocated = results(attention.fresh_copy(module, spec), copied(tensors), spec)
    messages = differences(in_place, newly_allocated, attention.allowed(spec, tensors))
    assert not messages, (
        f"after `{name}` changed in place, the results differ from those of the same values in newly allocated memory: "
        f"{'; '.join(messages)}; do not cache by a tensor's address, shape or identity"
    )


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
def test_no_tensor_is_kept_after_a_call(attention: AttentionUnderTest, mode: str) -> None:
    """The memory of inputs and outputs is freed when the caller drops its references."""
    spec = attention.spec(mode=mode)
    module = attention.build(spec)
    tensors = inputs.make(spec)
    call_results = results(module, tensors, spec)
    held = {"q": tensors.q, "k": tensors.k, "v": tensors.v, "the output": call_results[0]}
    tensor_references = {name: weakref.ref(tensor) for name, tensor in held.items()}
    storage_references = {name: weakref.ref(tensor.untyped_storage()) for name, tensor in held.items()}
    del tensors, call_results, held

    def alive() -> list[str]:
        references = ((name, refs[name]) for refs in (tensor_references, storage_references) for name in refs)
        return sorted({name for name, reference in references if reference() is not None})

    if alive():
        gc.collect()  # a reference cycle that the garbage collector frees is not a cache
    kept = alive()
    assert not kept, f"after the call something still references {', '.join(kept)}; keep no tensors between calls"


def test_torch_settings_are_not_changed(attention: AttentionUnderTest) -> None:
    """A global torch setting that one plugin changes would distort the measurements of every other attention."""
    spec = attention.spec()
    before = _torch_settings()
    call(attention.build(spec), inputs.make(spec))
    after = _torch_settings()
    changed = [f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name]]
    assert not changed, f"building or calling the module changed torch's settings: {', '.join(changed)}; restore them"


def _torch_settings() -> dict[str, object]:
    return {
        "threads": torch.get_num_threads(),
        "default dtype": torch.get_default_dtype(),
        "grad mode": torch.is_grad_enabled(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
    }
