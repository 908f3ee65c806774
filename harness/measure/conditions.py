"""What a case runs under and what it does, observed in one call: what a fair comparison must have equal.

Torch's dispatcher hands every operation of the call to a mode, forward and backward. It sees what torch does, and not
the inside of a fused or native kernel.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from harness.core.record import Conditions
from harness.core.spec import ModelSpec, OperationSpec
from yoso.torch_private import TorchDispatchMode, argument_names, backward_is_running, is_compiled, tree_leaves

SHORT = 4
"""Up to so many times the head's width, features of tokens are as many as tokens: nobody can tell them from pairs."""
_COPIES = ("clone", "_to_copy", "copy_")
_PRECISIONS = ["medium", "high", "highest"]


def observe(call: Callable[[], Any], module: nn.Module, spec: OperationSpec | ModelSpec) -> Conditions:
    """Run ``call`` once and say what it did.

    Args:
        call: the call that is measured.
        module: what it calls, for weights and compiled parts.
        spec: its sizes tell which tensors count.
    """
    found: dict[str, Any] = {"parameters": sum(one.numel() for one in module.parameters())}
    found["compiled"] = any(is_compiled(part) for part in module.modules())
    found["float32_matmul"] = torch.get_float32_matmul_precision()
    if found["compiled"]:  # dynamo does not run under a mode: the call would be another one
        return Conditions(**found, unseen="compiled: its operations are not torch's")
    if any(getattr(part, "compiles_inside", False) for part in module.modules()):
        # What dynamo meets under a mode it would not compile in later calls either.
        return Conditions(**found, unseen="torch compiles a part of it in the call: its operations are not torch's")
    watch = _Watch(spec)
    try:
        with watch:
            call()
    except Exception as error:  # it runs without a mode; what it does is then unknown and its measuring goes on
        return Conditions(**found, unseen=f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
    found["float32_matmul"] = min(watch.precisions | {found["float32_matmul"]}, key=_PRECISIONS.index)
    found |= {"dtypes": sorted(watch.dtypes), "dropout": watch.dropout, "recomputes": watch.recomputes}
    found["operators"] = watch.operators
    if isinstance(spec, OperationSpec):  # in a model other tensors are as large, and copied too
        long = spec.seq_len > SHORT * spec.head_dim
        found |= {"layout_copies": watch.layout_copies, "all_pairs": watch.all_pairs if long else None}
    return Conditions(**found)


class _Watch(TorchDispatchMode):
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
        self.operators += not getattr(func, "is_view", False)  # a view is another look at the same memory
        self.precisions.add(torch.get_float32_matmul_precision())
        # Backward formulas run without gradients; what runs with them there is the forward pass once more.
        self.recomputes |= backward_is_running() and torch.is_grad_enabled()
        self.dropout |= _drops(func, args, kwargs or {}, self.rows)
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and tensor.numel() >= self.rows:
                # Not what is kept a row, as fused attention does its sums, in float32 whatever it computes in.
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
    """Whether the operation is dropout, or holds some."""
    name = func.__name__.split(".")[0]
    if name == "native_dropout":
        return bool(args[1] > 0)
    if name == "bernoulli_":
        return bool(args[0].numel() >= rows)  # the mask of a dropout without a kernel of its own
    return bool((dict(zip(argument_names(func), args, strict=False)) | kwargs).get("dropout_p", 0.0))
