"""torch's FlexAttention, compiled to one fused kernel, and its eager form, which is dense.

In torch 2.13 a CPU has the forward pass alone: fused C++ where AVX2 and a compiler are there, and no backward in
either form. What torch says of that is the reason in the record.
"""

import inspect
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import config as compiler_config
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons, quadratic_reasons
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import has_backward, head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec, Spec
from yoso.torch_private import import_inductor

BLOCK = 128
"""Keys and queries a block of the mask: flex_attention's default."""
GRAPHS = 2**16
"""More shapes than one process sees."""


class Flex(nn.Module):
    """flex_attention with padding as a block mask: blocks of padding alone are skipped, not masked."""

    compiles_inside = True
    """Torch compiles a wrapper also in the eager form: see ``harness.measure.conditions``."""

    def __init__(self, compiled: bool) -> None:
        super().__init__()
        self.attend: Callable[..., Any] = _compiled() if compiled else _eager

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        mask = None if key_padding_mask is None else _block_mask(key_padding_mask, q.shape[2])
        return self.attend(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])


def _compiled() -> Callable[..., Any]:
    import_inductor()
    # A function compiled for 8 shapes falls back to the dense form unless fullgraph forbids it; newer torch counts
    # the shapes of each module apart.
    known = inspect.signature(torch.compile).parameters
    apart: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in known else {}
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=False, fullgraph=True, **apart)
    return compiled


def _eager(*args: Any, **kwargs: Any) -> Any:
    # Also this form goes through dynamo, with a graph a shape; where dynamo gives up, after 8, the call fails.
    limits = {"recompile_limit": GRAPHS, "accumulated_recompile_limit": GRAPHS}
    with warnings.catch_warnings(), compiler_config.patch(**limits):  # type: ignore[attr-defined]  # set at run time
        # that it is dense is what this form is here for
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return flex_attention(*args, **kwargs)


def _block_mask(real: Tensor, queries: int) -> BlockMask:
    """The mask of bool ``real`` ``[B, N]`` from counts of blocks: ``create_block_mask`` would make it n x n first."""
    batch, n = real.shape
    blocks, rows = -(-n // BLOCK), -(-queries // BLOCK)
    count = nn.functional.pad(real.int(), (0, blocks * BLOCK - n)).view(batch, 1, 1, blocks, BLOCK).sum(-1)
    whole = (torch.arange(1, rows + 1, device=real.device) * BLOCK <= queries)[:, None]
    full = (count == BLOCK) & whole  # [B, 1, rows, blocks]
    partial = (count > 0) & ~full

    def listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
        order = chosen.int().argsort(dim=-1, descending=True, stable=True)  # the chosen blocks, in order
        return chosen.sum(-1, dtype=torch.int32), order.int()

    def mask_mod(b: Tensor, h: Tensor, q_index: Tensor, kv_index: Tensor) -> Tensor:
        del h, q_index
        return real[b, kv_index]

    return BlockMask.from_kv_blocks(
        *listed(partial), *listed(full), BLOCK_SIZE=BLOCK, mask_mod=mask_mod, seq_lengths=(queries, n)
    )


class FlexPlugin(AttentionPlugin):
    """flex_attention, compiled or as it is called without torch.compile."""

    source = "torch.nn.attention.flex_attention; Dong et al., 2024, https://arxiv.org/abs/2412.05496"
    capabilities = Capabilities(
        cross_attention=True,
        gqa=True,
        backward="cuda",
        why={"backward": "torch has no backward of it on a CPU"},
    )

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled
        # Inductor's C++ template takes exp_u20, which is good to 20 units in the last place of a float32.
        self.kernel_error = 20 * torch.finfo(torch.float32).eps if compiled else 0.0
        self.name = "flex" if compiled else "flex_eager"
        form = "compiled to one fused kernel" if compiled else "without torch.compile, so dense: n x n memory and time"
        self.summary = f"softmax attention, torch's FlexAttention {form}"

    def unsupported(self, spec: Spec) -> list[str]:
        """Torch's own refusal of gradients, no compiler for a CPU, or n x n scores that do not fit."""
        missing = device_reasons(spec)
        if missing:
            return missing
        reasons = _refusal(spec)
        if not self.compiled:
            return reasons or quadratic_reasons(spec, forward_copies=3, backward_copies=4)
        if torch.device(spec.device).type == "cpu":
            reasons += _no_cpu_kernel()
        return reasons

    def kernel(self, spec: Spec) -> str:
        """Fused, by inductor's C++ or Triton template, or not."""
        if not self.compiled:
            return f"torch flex_attention, dense on {spec.device}"
        template = "C++" if torch.device(spec.device).type == "cpu" else "Triton"
        return f"torch flex_attention, inductor's {template} template on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products forward, five backward."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights, and the compiled one compiles at its first call."""
        del spec
        return Flex(self.compiled)

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention by its definition."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)


def _refusal(spec: Spec) -> list[str]:
    """What flex_attention says before it compiles anything; only a call that asks for gradients is refused there.

    Torch 2.10 says nothing, and then fails to compile it.
    """
    if not has_backward(spec) or torch.device(spec.device).type != "cpu":
        return []
    q = torch.zeros(1, 1, 16, head_dim(spec), device=spec.device, dtype=torch_dtype(spec.dtype)).requires_grad_()
    try:
        _eager(q, q, q)
    except NotImplementedError as error:
        return [f"torch {torch.__version__}: {error}"]
    return [f"torch {torch.__version__}: compiled FlexAttention does not support backward on CPU"]


def _no_cpu_kernel() -> list[str]:
    """What inductor's C++ template needs: AVX2 and the compiler that it will call."""
    reasons = []
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        reasons.append("inductor's FlexAttention needs AVX2, which torch does not use on this CPU")
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        reasons.append(f"inductor compiles FlexAttention with {compiler!r}, which is not on PATH")
    return reasons


FLEX = FlexPlugin(compiled=True)
EAGER = FlexPlugin(compiled=False)
