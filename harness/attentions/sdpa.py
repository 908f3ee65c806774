"""torch's scaled_dot_product_attention, with the backend that torch selects and restricted to each backend."""

import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons, quadratic_reasons
from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import has_backward, has_padding, head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec, Spec
from yoso.torch_private import sdpa_backend_number

_BACKENDS = {
    SDPBackend.MATH: "math",
    SDPBackend.FLASH_ATTENTION: "flash",
    SDPBackend.EFFICIENT_ATTENTION: "efficient",
    SDPBackend.CUDNN_ATTENTION: "cudnn",
}
_CUDA_ONLY = (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION)


class Sdpa(nn.Module):
    """scaled_dot_product_attention restricted to one backend, or with the backend that torch selects (None)."""

    def __init__(self, backend: SDPBackend | None) -> None:
        super().__init__()
        self.backend = backend

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``."""
        mask = None if key_padding_mask is None else key_padding_mask[:, None, None, :]
        # Fused backends need the last dimension to have stride 1.
        q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
        with _restricted_to(self.backend):
            return scaled_dot_product_attention(q, k, v, attn_mask=mask)


def _restricted_to(backend: SDPBackend | None) -> AbstractContextManager[None]:
    return nullcontext() if backend is None else sdpa_kernel(backend)


def _capabilities(backend: SDPBackend | None) -> Capabilities:
    """What torch documents about its kernels; ``unsupported`` asks torch about each case's head size and the rest."""
    if backend is SDPBackend.MATH:
        return Capabilities(cross_attention=True, compile=True)
    why = {
        "head_dims": "each kernel has its own limits; torch is asked with a query of the case's head size",
        "deterministic": "torch's fused CUDA backward pass sums with atomic additions",
    }
    limits: dict[str, Any] = {"deterministic": "cpu"}
    if backend in _CUDA_ONLY:
        why["devices"] = "torch has this backend on CUDA only"
        limits = {"deterministic": False, "devices": ("cuda",)}
    if backend is SDPBackend.CUDNN_ATTENTION:
        why["dtypes"] = "cuDNN's attention has no float32"
        limits["dtypes"] = ("bfloat16", "float16")
    if backend is SDPBackend.FLASH_ATTENTION:
        why["padding_mask"] = "torch's flash backend takes no mask on CUDA"
        why["dtypes"] = "torch's flash backend has no float32 on CUDA"
        limits["padding_mask"] = "cpu"
    return Capabilities(cross_attention=True, compile=True, head_dims="various", why=why, **limits)


def _short_inputs(spec: Spec) -> tuple[Tensor, Tensor | None]:
    """A query and a mask as in the case but of length 16: torch's choice does not depend on the length."""
    q = torch.zeros(1, 1, 16, head_dim(spec), device=spec.device, dtype=torch_dtype(spec.dtype))
    mask = torch.ones(1, 1, 1, 16, dtype=torch.bool, device=spec.device) if has_padding(spec) else None
    return q.requires_grad_(has_backward(spec)), mask


class SdpaPlugin(AttentionPlugin):
    """scaled_dot_product_attention, restricted to ``backend`` unless it is None."""

    source = "torch, https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention"
    exact_softmax = True

    def __init__(self, backend: SDPBackend | None) -> None:
        self.backend = backend
        self.capabilities = _capabilities(backend)
        if backend is None:
            self.name = "sdpa"
            self.summary = "exact softmax attention by torch's sdpa, with the kernel that torch selects; O(n^2 d) time"
        else:
            self.name = f"sdpa_{_BACKENDS[backend]}"
            memory = "n x n" if backend is SDPBackend.MATH else "O(n)"
            self.summary = (
                f"exact softmax attention by torch's sdpa, {_BACKENDS[backend]} backend; O(n^2 d) time, {memory} memory"
            )

    def unsupported(self, spec: Spec) -> list[str]:
        """torch's own reasons, from the warnings and the error of a short call with the backend."""
        missing = device_reasons(spec)
        if missing:
            return missing
        device = torch.device(spec.device).type
        if self.backend in _CUDA_ONLY and device != "cuda":
            return [f"torch's {_BACKENDS[self.backend]} backend runs on CUDA, not on {device}", *self._refusal(spec)]
        reasons = self._refusal(spec)
        if not reasons and self.backend is SDPBackend.MATH:
            reasons = quadratic_reasons(spec, forward_copies=3, backward_copies=4)
        return reasons

    def _refusal(self, spec: Spec) -> list[str]:
        q, mask = _short_inputs(spec)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")  # torch warns of each reason, by default once per process
            try:
                with _restricted_to(self.backend):
                    scaled_dot_product_attention(q, q, q, attn_mask=mask)
            except RuntimeError as error:
                reasons = [str(warning.message).split(" (Triggered internally")[0] for warning in caught]
                return [*dict.fromkeys(reasons), f"torch: {str(error).splitlines()[0]}"]
        return []

    def kernel(self, spec: Spec) -> str:
        """The backend that torch dispatches to."""
        q, mask = _short_inputs(spec)
        with _restricted_to(self.backend):
            chosen = sdpa_backend_number(q, q, q, mask)
        backend = next(name for value, name in _BACKENDS.items() if int(value.value) == chosen)
        return f"torch sdpa, {backend} on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Two matrix products in the forward pass, five in the backward pass."""
        return cost.softmax(spec) if isinstance(spec, OperationSpec) else None

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        del spec
        return Sdpa(self.backend)

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Softmax attention as it is defined."""
        del spec
        return softmax_attention(q, k, v, key_padding_mask, rows)


DEFAULT = SdpaPlugin(None)
MATH = SdpaPlugin(SDPBackend.MATH)
FLASH = SdpaPlugin(SDPBackend.FLASH_ATTENTION)
EFFICIENT = SdpaPlugin(SDPBackend.EFFICIENT_ATTENTION)
CUDNN = SdpaPlugin(SDPBackend.CUDNN_ATTENTION)
