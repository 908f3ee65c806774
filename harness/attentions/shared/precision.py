"""The dtype in which a module computes: autocast's, and float32 where the range of float16 is too small.

Both are decorators of ``forward``. Where both apply, ``dtype_of_autocast`` comes first.
"""

from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import cast

import torch
from torch import Tensor, nn

Forward = Callable[..., Tensor]
"""``forward`` of a module that is called as ``(q, k, v, key_padding_mask)``."""


def dtype_of_autocast(forward: Forward) -> Forward:
    """Under autocast, compute as without autocast on inputs in autocast's dtype, as torch's sdpa does.

    Autocast itself chooses a dtype for every operation. Within one attention that mixes dtypes: scores become 16-bit
    although q is float32, and an inverse that was to be computed in float32 is computed in 16 bits.
    """

    @wraps(forward)
    def forward_in_dtype_of_autocast(
        self: nn.Module, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        device = q.device.type
        if not torch.amp.is_autocast_available(device) or not torch.is_autocast_enabled(device):
            return forward(self, q, k, v, key_padding_mask)
        chosen = torch.get_autocast_dtype(device)
        q, k, v = (x if x.dtype == torch.float64 else x.to(chosen) for x in (q, k, v))  # as autocast, which keeps it
        with torch.autocast(device, enabled=False):
            return forward(self, q, k, v, key_padding_mask)

    return _with_own_code(forward_in_dtype_of_autocast, forward)


def float16_in_float32(forward: Forward) -> Forward:
    """Compute float16 inputs in float32 and round the output once.

    The largest float16 is 65504. Scores, sums over the keys and their gradients are often larger where the result is
    not, and inf - inf is NaN. bfloat16 has the range of float32 and is computed as it is.
    """

    @wraps(forward)
    def forward_in_float32(
        self: nn.Module, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None
    ) -> Tensor:
        if q.dtype != torch.float16:
            return forward(self, q, k, v, key_padding_mask)
        return forward(self, q.float(), k.float(), v.float(), key_padding_mask).to(torch.float16)

    return _with_own_code(forward_in_float32, forward)


def _with_own_code(wrapper: Forward, forward: Forward) -> Forward:
    """``wrapper`` with a code object of its own, named after ``forward``.

    torch.compile counts the graphs of each code object and stops at eight, so that all attentions would share them.
    """
    function = cast(FunctionType, wrapper)
    function.__code__ = function.__code__.replace(co_name=forward.__qualname__)
    return wrapper
