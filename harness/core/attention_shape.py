"""The attention's sizes and passes in any kind of spec: head size, batch, layers, gradients and padding."""

from importlib import import_module
from typing import Any

from harness.core.spec import ModelSpec, OperationSpec, QualitySpec, Spec, TaskSpec


def head_dim(spec: Spec) -> int:
    """Number of features of one head."""
    if isinstance(spec, OperationSpec | QualitySpec):
        return spec.head_dim
    if isinstance(spec, ModelSpec | TaskSpec):
        return spec.hidden_size // spec.heads
    raise _unknown_kind(spec)


def batch_and_heads(spec: Spec) -> tuple[int, int]:
    """Number of sequences in one call, and number of heads."""
    if isinstance(spec, OperationSpec | QualitySpec | ModelSpec | TaskSpec):
        return spec.batch, spec.heads
    raise _unknown_kind(spec)


def layers(spec: Spec) -> int:
    """Number of attention layers that run one after the other; 1 for an operation or quality case."""
    return spec.layers if isinstance(spec, ModelSpec | TaskSpec) else 1


def has_backward(spec: Spec) -> bool:
    """Whether the case computes gradients."""
    return not (isinstance(spec, OperationSpec | ModelSpec) and spec.mode == "forward")


def has_padding(spec: Spec) -> bool:
    """Whether the case passes a key padding mask."""
    return isinstance(spec, TaskSpec) or (isinstance(spec, OperationSpec) and spec.padding > 0)


def _unknown_kind(spec: Spec) -> TypeError:
    return TypeError(
        "spec must be an OperationSpec, QualitySpec, ModelSpec or TaskSpec (harness.core.spec), "
        f"got {type(spec).__name__}"
    )


def __getattr__(name: str) -> Any:
    """``device_reasons``, which was defined in this module when it was ``harness.traits``."""
    if name == "device_reasons":
        return getattr(import_module("harness.attentions.shared.capacity"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
