"""What a plugin asks of any spec, whatever its kind: sizes of the attention inside, and whether gradients flow."""

from importlib import import_module
from typing import Any

from harness.core.spec import ModelSpec, OperationSpec, QualitySpec, Spec, TaskSpec


def head_dim(spec: Spec) -> int:
    """Width of one head."""
    if isinstance(spec, OperationSpec | QualitySpec):
        return spec.head_dim
    if isinstance(spec, ModelSpec | TaskSpec):
        return spec.hidden_size // spec.heads
    raise TypeError(f"spec must be one of harness.core.spec.AnySpec, not {type(spec).__name__}")


def batch_and_heads(spec: Spec) -> tuple[int, int]:
    """Sequences a call, and heads."""
    if isinstance(spec, OperationSpec | QualitySpec | ModelSpec | TaskSpec):
        return spec.batch, spec.heads
    raise TypeError(f"spec must be one of harness.core.spec.AnySpec, not {type(spec).__name__}")


def layers(spec: Spec) -> int:
    """Attentions that run one after the other; 1 for the attention alone."""
    return spec.layers if isinstance(spec, ModelSpec | TaskSpec) else 1


def has_backward(spec: Spec) -> bool:
    """Whether the case takes gradients."""
    return not (isinstance(spec, OperationSpec | ModelSpec) and spec.mode == "forward")


def has_padding(spec: Spec) -> bool:
    """Whether a mask is passed."""
    return isinstance(spec, TaskSpec) or (isinstance(spec, OperationSpec) and spec.padding > 0)


def __getattr__(name: str) -> Any:
    """``device_reasons``, which was defined in this module when it was ``harness.traits``."""
    if name == "device_reasons":
        return getattr(import_module("harness.attentions.shared.capacity"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
