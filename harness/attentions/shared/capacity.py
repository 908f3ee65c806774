"""Whether a case's device exists and its n x n tensors fit in memory.

A case that does not fit is unsupported with a reason, so that it neither swaps nor runs out of memory.
"""

import psutil
import torch

from harness.core.attention_shape import batch_and_heads, device_reasons, has_backward, layers
from harness.core.plugin import torch_dtype
from harness.core.spec import Spec

__all__ = ["GIB", "available_bytes", "device_reasons", "quadratic_reasons"]

GIB = 1024**3


def available_bytes(device: str) -> int:
    """Bytes that can be allocated now: free RAM for a CPU; free memory and torch's unused cache for a CUDA device."""
    if torch.device(device).type != "cuda":
        return int(psutil.virtual_memory().available)
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def quadratic_reasons(spec: Spec, forward_copies: int, backward_copies: int) -> list[str]:
    """The reason why ``[B, H, N, N]`` tensors of this spec do not fit, or an empty list.

    Args:
        spec: the case.
        forward_copies: number of such tensors that exist at the same time in a forward pass.
        backward_copies: the same for a forward and backward pass, where each layer of a model keeps its own.
    """
    batch, heads = batch_and_heads(spec)
    copies = backward_copies * layers(spec) if has_backward(spec) else forward_copies
    needed = batch * heads * spec.seq_len**2 * torch_dtype(spec.dtype).itemsize * copies
    available = available_bytes(spec.device)
    if needed <= available:
        return []
    return [
        f"its n x n tensors need {needed / GIB:.1f} GiB at n={spec.seq_len}, but only {available / GIB:.1f} GiB "
        f"are available on {spec.device}"
    ]
