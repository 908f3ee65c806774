"""The attention's sizes and passes in any kind of spec: head size, batch, layers, gradients and padding."""

import torch

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
    return not (isinstance(spec, OperationSpec | ModelSpec | QualitySpec) and spec.mode == "forward")


def has_padding(spec: Spec) -> bool:
    """Whether the case passes a key padding mask."""
    return isinstance(spec, TaskSpec) or (isinstance(spec, OperationSpec) and spec.padding > 0)


def device_reasons(spec: Spec) -> list[str]:
    """The reason why this machine does not have the spec's device, or an empty list."""
    if torch.device(spec.device).type == "cuda" and not torch.cuda.is_available():
        return [f"device {spec.device!r} does not exist: torch {torch.__version__} sees no CUDA device"]
    return []


def _unknown_kind(spec: Spec) -> TypeError:
    return TypeError(
        "spec must be an OperationSpec, QualitySpec, ModelSpec or TaskSpec (harness.core.spec), "
        f"got {type(spec).__name__}"
    )
