"""torch's FlexAttention: compiled to one fused kernel, and the eager form, which computes dense n x n scores.

In torch 2.13 the CPU has only the forward pass, as fused C++ where AVX2 and a compiler are available, and no backward
pass in either form. The reason in the record is torch's own error message.
"""

import inspect
import os
import shutil
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
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
"""Keys, and queries, per block of the mask: the default of flex_attention."""
GRAPHS = 2**16
"""Dynamo's limit of graphs, one per shape; far more than a process needs."""


class Flex(nn.Module):
    """flex_attention with padding as a block mask, so that blocks of padding alone are skipped instead of masked."""

    compiles_inside = True
    """torch compiles a wrapper in the eager form too; see ``harness.measure.conditions``."""

    def __init__(self, compiled: bool) -> None:
        super().__init__()
        self.attend: Callable[..., Any] = _compiled() if compiled else _eager

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        mask = None if key_padding_mask is None else _block_mask(key_padding_mask, q.shape[2])
        with _unlimited_graphs():
            return self.attend(q, k, v, block_mask=mask, enable_gqa=q.shape[1] != k.shape[1])


def _compiled() -> Callable[..., Any]:
    import_inductor()
    # Beyond its limit of shapes torch.compile would fall back to the dense form; fullgraph makes it fail instead. Newer
    # torch versions can count the shapes of each module separately.
    options = inspect.signature(torch.compile).parameters
    isolated: dict[str, Any] = {"isolate_recompiles": True} if "isolate_recompiles" in options else {}
    compiled: Callable[..., Any] = torch.compile(flex_attention, dynamic=False, fullgraph=True, **isolated)
    return compiled


def _unlimited_graphs() -> AbstractContextManager[None]:
    """Dynamo makes one graph per shape, in the eager form too, and by default a call fails after 8 shapes."""
    limits = {"recompile_limit": GRAPHS, "accumulated_recompile_limit": GRAPHS}
    context: AbstractContextManager[None] = compiler_config.patch(**limits)  # type: ignore[attr-defined]  # set at run time
    return context


def _eager(*args: Any, **kwargs: Any) -> Any:
    with warnings.catch_warnings():
        # The warning is that this form is dense, which is what the plugin is meant to measure.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return flex_attention(*args, **kwargs)


def _block_mask(real: Tensor, queries: int) -> BlockMask:
    """Build the block mask of a padding mask from the number of real keys in each block.

    ``create_block_mask`` would allocate an n x n mask first.

    Args:
        real: bool ``[B, N]``, True for a real token.
        queries: number of queries.
    """
    batch, n = real.shape
    blocks, rows = -(-n // BLOCK), -(-queries // BLOCK)
    count = nn.functional.pad(real.int(), (0, blocks * BLOCK - n)).view(batch, 1, 1, blocks, BLOCK).sum(-1)
    whole = (torch.arange(1, rows + 1, device=real.device) * BLOCK <= queries)[:, None]
    full = (count == BLOCK) & whole  # [B, 1, rows, blocks]
    partial = (count > 0) & ~full

    def count_and_indices(chosen: Tensor) -> tuple[Tensor, Tensor]:
        order = chosen.int().argsort(dim=-1, descending=True, stable=True)  # chosen blocks first, in order
        return chosen.sum(-1, dtype=torch.int32), order.int()

    def mask_mod(b: Tensor, h: Tensor, q_index: Tensor, kv_index: Tensor) -> Tensor:
        del h, q_index
        return real[b, kv_index]

    return BlockMask.from_kv_blocks(
        *count_and_indices(partial),
        *count_and_indices(full),
        BLOCK_SIZE=BLOCK,
        mask_mod=mask_mod,
        seq_lengths=(queries, n),
    )


class FlexPlugin(AttentionPlugin):
    """flex_attention, compiled or called without torch.compile."""

    source = "torch.nn.attention.flex_attention; Dong et al., 2024, https://arxiv.org/abs/2412.05496"
    exact_softmax = True
    capabilities = Capabilities(
        cross_attention=True,
        gqa=True,
        backward="cuda",
        why={"backward": "torch has no backward pass for FlexAttention on a CPU"},
    )

    def __init__(self, compiled: bool) -> None:
        self.compiled = compiled
        # Inductor's C++ template uses exp_u20, whose error is up to 20 units in the last place of a float32.
        self.kernel_error = 20 * torch.finfo(torch.float32).eps if compiled else 0.0
        self.name = "flex" if compiled else "flex_eager"
        form = "compiled to one fused kernel" if compiled else "without torch.compile, so with dense scores"
        memory = "O(n)" if compiled else "n x n"
        self.summary = f"exact softmax attention by torch's FlexAttention, {form}; O(n^2 d) time, {memory} memory"

    def unsupported(self, spec: Spec) -> list[str]:
        """torch's refusal to compute gradients, a missing CPU compiler, or n x n scores that do not fit in memory."""
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
        """Which of inductor's templates the compiled form uses, or that the eager form is dense."""
        if not self.compiled:
            return f"torch flex_attention, dense on {spec.device}"
        template = "C++" if torch.device(spec.device).type == "cpu" else "Triton"
        return f"torch flex_attention, inductor's {template} template on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products in the forward pass, five in the backward pass."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module. It has no weights; the compiled form compiles at its first call."""
        del spec
        return Flex(self.compiled)

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention as it is defined."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)


def _refusal(spec: Spec) -> list[str]:
    """Why flex_attention refuses this case; it refuses only gradients on a CPU, before it compiles anything.

    torch 2.10 does not refuse them but fails to compile, so the reason is then written here.
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
    """What inductor's C++ template lacks on this machine: AVX2, or the compiler that it would call."""
    reasons = []
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        reasons.append("inductor's CPU kernel for FlexAttention needs AVX2, which torch does not use on this CPU")
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        reasons.append(
            f"inductor needs a C++ compiler, and {compiler!r} is not on PATH; install it or set CXX to another"
        )
    return reasons


FLEX = FlexPlugin(compiled=True)
EAGER = FlexPlugin(compiled=False)
