"""What one call of a case does and under which settings: the facts that must be equal in a fair comparison.

A dispatch mode sees every operation that torch dispatches in the call, forward and backward. It does not see inside a
fused or native kernel.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.record import Conditions
from harness.core.spec import ModelSpec, OperationSpec
from yoso.torch_private import DispatchObserver, argument_names, backward_is_running, is_compiled, tree_leaves

LONG_PER_HEAD_DIM = 4
"""``all_pairs`` is reported only for sequences longer than this many times the head dimension. In a shorter sequence a
tensor of features per token can be as large as one of all pairs of tokens, and the two cannot be told apart."""
_COPIES = ("clone", "_to_copy", "copy_")
_PRECISIONS = ["medium", "high", "highest"]


def observe(call: Callable[[], Any], module: nn.Module, spec: OperationSpec | ModelSpec) -> Conditions:
    """Run ``call`` once and report what it did.

    Args:
        call: the call that is measured.
        module: the module that it calls, for weights and compiled parts.
        spec: the case; its sizes decide which tensors count.
    """
    parameters = sum(parameter.numel() for parameter in module.parameters())
    compiled = any(is_compiled(part) for part in module.modules())
    precision = torch.get_float32_matmul_precision()

    def not_observed(reason: str) -> Conditions:
        return Conditions(parameters=parameters, compiled=compiled, float32_matmul=precision, unseen=reason)

    if compiled:  # dynamo does not compile under a dispatch mode: another call than the measured one would be observed
        return not_observed("compiled: torch does not dispatch its operations one by one")
    if any(getattr(part, "compiles_inside", False) for part in module.modules()):
        # What dynamo refuses to compile under a mode, it would not compile in later calls either.
        return not_observed("torch compiles a part of it in the call and does not dispatch its operations one by one")
    observer = _ConditionsObserver(spec)
    try:
        with observer:
            call()
    except Exception as error:  # the call works without a mode, so it can be measured although it cannot be observed
        return not_observed(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    conditions = Conditions(
        parameters=parameters,
        compiled=compiled,
        float32_matmul=min(observer.precisions | {precision}, key=_PRECISIONS.index),
        dtypes=sorted(observer.dtypes),
        dropout=observer.dropout,
        recomputes=observer.recomputes,
        operators=observer.operators,
    )
    if isinstance(spec, OperationSpec):  # a model also copies other tensors of that size
        conditions.layout_copies = observer.layout_copies
        is_long = spec.seq_len > LONG_PER_HEAD_DIM * spec.head_dim
        conditions.all_pairs = observer.all_pairs if is_long else None
    return conditions


class _ConditionsObserver(DispatchObserver):
    """Collects facts about every operation that torch dispatches while it is active."""

    supports_higher_order_operators = True

    def __init__(self, spec: OperationSpec | ModelSpec) -> None:
        super().__init__()
        width = spec.head_dim * spec.heads if isinstance(spec, OperationSpec) else spec.hidden_size
        self.length = spec.seq_len
        self.rows = spec.batch * spec.seq_len
        self.input_size = self.rows * width
        self.dtypes: set[str] = set()
        self.precisions: set[str] = set()
        self.dropout = self.recomputes = self.all_pairs = False
        self.layout_copies = self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.operators += not getattr(func, "is_view", False)  # a view does no work
        self.precisions.add(torch.get_float32_matmul_precision())
        # Backward formulas run with gradients disabled. An operation with gradients enabled there is recomputation.
        self.recomputes |= backward_is_running() and torch.is_grad_enabled()
        self.dropout |= _drops(func, args, kwargs or {}, self.rows)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.numel() >= self.rows:
                # Smaller tensors are skipped: fused attention keeps one float32 sum per row in every compute dtype.
                if tensor.is_floating_point() and tensor.numel() >= self.input_size:
                    self.dtypes.add(str(tensor.dtype).removeprefix("torch."))
                self.all_pairs |= tensor.dim() > 1 and min(tensor.shape[-2:]) >= self.length
        name = func.__name__.split(".")[0]
        if name in _COPIES and result.numel() >= self.input_size:
            source = args[1] if name == "copy_" else args[0]
            self.layout_copies += _layout(source) != _layout(result)
        return result


def _layout(tensor: Tensor) -> list[int]:
    """Strides of the dimensions that have more than one element."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


def _drops(func: Any, args: Any, kwargs: Any, rows: int) -> bool:
    """Whether the operation is dropout or contains dropout."""
    name = func.__name__.split(".")[0]
    if name == "native_dropout":
        return bool(args[1] > 0)
    if name == "bernoulli_":
        return bool(args[0].numel() >= rows)  # the mask of a dropout that has no kernel of its own
    return bool((dict(zip(argument_names(func), args, strict=False)) | kwargs).get("dropout_p", 0.0))
