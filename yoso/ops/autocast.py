"""What ``torch.autocast`` means for YOSO: its operators run in autocast's dtype, like matmul and sdpa."""

import torch
from torch import Tensor

# Asked here and not in a call: torch.compile before 2.13 cannot follow the question.
_AVAILABLE = frozenset(name for name in ("cpu", "cuda", "hpu", "mps", "xpu") if torch.amp.is_autocast_available(name))


def to_autocast_dtype(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Under autocast, float tensors in its dtype; as they are outside it, and float64 always, as torch does.

    Not the widest dtype of all: autocast halves the traffic, and the operators sum in float32 whatever comes in.
    """
    device = tensors[0].device.type
    if device not in _AVAILABLE or not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    return tuple(x.to(dtype) if x.is_floating_point() and x.dtype != torch.float64 else x for x in tensors)
