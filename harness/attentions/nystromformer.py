"""Nystromformer: softmax attention approximated through landmarks, the means of segments of queries and keys."""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, scaled_dot_product_attention

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.attention_shape import batch_and_heads
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec, Scalar, Spec


def segments(landmarks: int, key_padding_mask: Tensor) -> Tensor:
    """The weights that average each segment: float32 ``[B, landmarks, N]``, whose rows sum to 1.

    Segment i of L real tokens is the range from ``i L // landmarks`` to ``(i + 1) L // landmarks`` exclusive, or one
    token where that range is empty. Padded tokens belong to no segment.
    """
    length = key_padding_mask.sum(-1, keepdim=True)
    bounds = torch.arange(landmarks + 1, device=key_padding_mask.device) * length // landmarks
    start, stop = bounds[:, :-1], torch.maximum(bounds[:, 1:], bounds[:, :-1] + 1)
    rank = (key_padding_mask.cumsum(-1) - 1)[:, None]
    inside = (rank >= start[..., None]) & (rank < stop[..., None]) & key_padding_mask[:, None]
    return inside / (stop - start)[..., None]


def iterative_inverse(a: Tensor, iterations: int) -> Tensor:
    """Approximate the Moore-Penrose inverse of matrices ``[..., m, m]`` by the iteration in the paper's equation 11."""
    identity = torch.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    z = a.mT / (a.sum(-2).amax(-1) * a.sum(-1).amax(-1))[..., None, None]  # the 1-norm and inf-norm, as a > 0
    for _ in range(iterations):
        az = a @ z
        z = z @ (13 * identity - az @ (15 * identity - az @ (7 * identity - az))) / 4
    return z


class Nystromformer(nn.Module):
    """Attention through landmarks; see ``AttentionPlugin`` for the call.

    A sequence with no more real tokens than landmarks gets exact softmax attention, as in the authors' code and in
    transformers: nothing needs approximating, and the matrix to invert would be ill-conditioned. The two count padding;
    here it is not counted, so that a sequence gets the same result in any batch.

    Args:
        landmarks: number of landmarks, m.
        iterations: iterations of the approximate inverse.
        conv_weight: ``[H, 1, kernel, 1]``, which becomes a parameter: weights of a depthwise convolution of the values
            along the sequence that is added to the output. None for no convolution.
    """

    def __init__(self, landmarks: int, iterations: int, conv_weight: Tensor | None) -> None:
        super().__init__()
        self.landmarks = landmarks
        self.iterations = iterations
        self.conv_weight = None if conv_weight is None else nn.Parameter(conv_weight)

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; the largest intermediates are ``[B, H, N, landmarks]``."""
        mask = None if key_padding_mask is None else key_padding_mask[:, None, None, :]
        if q.shape[2] <= self.landmarks:
            out = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            out = self._through_landmarks(q, k, v, key_padding_mask, mask)
        if self.conv_weight is not None:
            kept = v if key_padding_mask is None else v * key_padding_mask[:, None, :, None]
            size = self.conv_weight.shape[2]
            out = out + conv2d(kept, self.conv_weight.to(v.dtype), padding=(size // 2, 0), groups=v.shape[1])
        return out

    def _through_landmarks(
        self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        landmark_q, landmark_k = self._landmarks(q, k, key_padding_mask)
        wide = torch.promote_types(q.dtype, torch.float32)  # the iteration does not converge in half precision
        middle = (landmark_q.to(wide) @ landmark_k.to(wide).mT / math.sqrt(q.shape[-1])).softmax(-1)
        summary = scaled_dot_product_attention(landmark_q, k, v, attn_mask=mask)
        if key_padding_mask is None:
            values = (iterative_inverse(middle, self.iterations) @ summary.to(wide)).to(q.dtype)
            return scaled_dot_product_attention(q, landmark_k, values)
        # Sequences with few real tokens attend to these tokens instead of to landmarks, of which there are as many.
        few = (key_padding_mask.sum(-1) <= self.landmarks)[:, None, None, None]
        middle = torch.where(few, torch.eye(self.landmarks, dtype=wide, device=q.device), middle)
        values = (iterative_inverse(middle, self.iterations) @ summary.to(wide)).to(q.dtype)
        first = (~key_padding_mask).int().argsort(dim=-1, stable=True)[:, : self.landmarks]
        first_k, first_v = (x.gather(2, first[:, None, :, None].expand_as(values)) for x in (k, v))
        seen = ~few | key_padding_mask.gather(1, first)[:, None, None]
        return scaled_dot_product_attention(
            q, torch.where(few, first_k, landmark_k), torch.where(few, first_v, values), attn_mask=seen
        )

    def _landmarks(self, q: Tensor, k: Tensor, key_padding_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        n = q.shape[2]
        if key_padding_mask is None and n % self.landmarks == 0:
            return q.unflatten(2, (self.landmarks, -1)).mean(3), k.unflatten(2, (self.landmarks, -1)).mean(3)
        if key_padding_mask is None:
            key_padding_mask = torch.ones(1, n, dtype=torch.bool, device=q.device)
        weights = segments(self.landmarks, key_padding_mask)[:, None].to(q.dtype)
        return weights @ q, weights @ k


class NystromformerPlugin(AttentionPlugin):
    """Nystromformer; with a convolution it has trainable weights."""

    name = "nystromformer"
    summary = "Nystrom approximation of softmax attention with m landmarks; O(n m d) time, O(n m) memory"
    source = (
        "Xiong et al., AAAI 2021, https://arxiv.org/abs/2102.03902; implemented here, verified against transformers' "
        "NystromformerSelfAttention (each matrix has its own initial guess of the inverse, as in the paper; "
        "transformers by default uses one for the whole batch)"
    )
    capabilities = Capabilities(
        deterministic="cpu",
        compile=True,
        why={
            "cross_attention": "queries and keys are divided into the same segments",
            "deterministic": "torch's fused CUDA backward pass sums with atomic additions",
        },
    )
    estimates = "softmax"
    budget = "num_landmarks"

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The numbers of landmarks and iterations, and the width of the convolution.

        - ``num_landmarks``: landmarks per sequence (m).
        - ``iterations``: iterations of the approximate inverse.
        - ``conv_kernel``: odd width of the convolution, with trainable weights, that the paper adds as a skip
          connection (33 in its models for long sequences); 0 for none.
        """
        return {"num_landmarks": min(64, spec.seq_len), "iterations": 6, "conv_kernel": 0}

    def unsupported(self, spec: Spec) -> list[str]:
        """Knobs that are out of range, or a missing device."""
        knobs = self.knobs(spec)
        reasons = device_reasons(spec)
        kernel = int(knobs["conv_kernel"])
        if kernel < 0 or (kernel and kernel % 2 == 0):
            reasons.append(f"conv_kernel must be odd or 0, got {kernel}")
        for knob in ("num_landmarks", "iterations"):
            if int(knobs[knob]) < 1:
                reasons.append(f"{knob} must be at least 1, got {knobs[knob]}")
        return reasons

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch segment means, sdpa to and from landmarks, matmul iterations on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Forward: four products of n x m x d, and four of m x m x m per iteration. Backward: twice that."""
        if not isinstance(spec, OperationSpec):
            return None
        knobs = self.knobs(spec)
        m, passes = int(knobs["num_landmarks"]), 3 if spec.mode == "forward_backward" else 1
        per_head = 4 * spec.seq_len * m * spec.head_dim + 2 * m**2 * spec.head_dim + 4 * int(knobs["iterations"]) * m**3
        operations = 2.0 * spec.batch * spec.heads * per_head * passes
        return {f"matmul {spec.dtype}": operations, "copy": cost.softmax(spec)["copy"]}

    def build(self, spec: Spec) -> nn.Module:
        """The module; the convolution's initial weights are drawn from the spec's seed."""
        knobs = self.knobs(spec)
        module = Nystromformer(int(knobs["num_landmarks"]), int(knobs["iterations"]), self._conv_weight(spec))
        return module.to(spec.device)

    def _conv_weight(self, spec: Spec) -> Tensor | None:
        """``[H, 1, kernel, 1]`` in the spec's dtype on the CPU, uniform as torch initialises it; None without."""
        size = int(self.knobs(spec)["conv_kernel"])
        if not size:
            return None
        generator = torch.Generator("cpu").manual_seed(spec.seed)
        weight = torch.rand(batch_and_heads(spec)[1], 1, size, 1, generator=generator, device="cpu")
        return ((2 * weight - 1) / math.sqrt(size)).to(torch_dtype(spec.dtype))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Equations 11 and 13 of the paper, one sequence and head at a time, over the real tokens."""
        knobs = self.knobs(spec)
        m, weight = int(knobs["num_landmarks"]), self._conv_weight(spec)
        rows = rows.to(q.device)
        outputs = []
        for b in range(q.shape[0]):
            mask = torch.ones(q.shape[2], dtype=torch.bool) if key_padding_mask is None else key_padding_mask[b]
            real = mask.to(q.device).nonzero().flatten()
            for h in range(q.shape[1]):
                keys, values = k[b, h, real], v[b, h, real]
                scale = math.sqrt(q.shape[3])
                if len(real) <= m:
                    out = (q[b, h, rows] @ keys.mT / scale).softmax(-1) @ values
                else:
                    landmark_q, landmark_k = _means(q[b, h, real], m), _means(keys, m)
                    first = (q[b, h, rows] @ landmark_k.mT / scale).softmax(-1)
                    last = (landmark_q @ keys.mT / scale).softmax(-1)
                    inverse = _inverse((landmark_q @ landmark_k.mT / scale).softmax(-1), int(knobs["iterations"]))
                    out = first @ inverse @ (last @ values)
                if weight is not None:
                    out = out + _convolution(v[b, h] * mask.to(v)[:, None], weight[h, 0, :, 0].to(v), rows)
                outputs.append(out)
        return torch.stack(outputs).unflatten(0, q.shape[:2])


def _means(x: Tensor, m: int) -> Tensor:
    """Means ``[m, D]`` of m segments of ``[L, D]``."""
    starts = [i * len(x) // m for i in range(m + 1)]
    return torch.stack([x[a : max(b, a + 1)].mean(0) for a, b in pairwise(starts)])


def _inverse(a: Tensor, iterations: int) -> Tensor:
    """Equation 11 as printed in the paper."""
    eye = torch.eye(len(a), dtype=a.dtype, device=a.device)
    z = a.mT / (torch.linalg.matrix_norm(a, 1) * torch.linalg.matrix_norm(a, math.inf))
    for _ in range(iterations):
        z = 0.25 * z @ (13 * eye - a @ z @ (15 * eye - a @ z @ (7 * eye - a @ z)))
    return z


def _convolution(v: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
    """The sum of each row's neighbours, weighted by their offset: ``[R, D]``."""
    out = torch.zeros_like(v[rows])
    for step in range(-(len(weight) // 2), len(weight) // 2 + 1):
        inside = ((rows + step >= 0) & (rows + step < len(v))).to(v)[:, None]
        out = out + inside * weight[step + len(weight) // 2] * v[(rows + step).clamp(0, len(v) - 1)]
    return out
