"""Performer (FAVOR+): attention through random features of queries and keys, either of softmax's kernel or of relu."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.core.attention_shape import head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin, torch_dtype
from harness.core.spec import OperationSpec, QualitySpec, Scalar, Spec

Kind = Literal["softmax", "relu"]


def draw_projection(num_features: int, dim: int, orthogonal: bool, generator: torch.Generator | None) -> Tensor:
    """Directions of the features, float32 ``[num_features, dim]`` on the CPU; each row alone is standard normal.

    Orthogonal ones come in blocks of ``dim`` rows: uniform orthogonal directions with the norms of independent
    Gaussian vectors (section 2.4 of the paper, "R-ORF").
    """
    gaussian = torch.randn(num_features, dim, generator=generator, device="cpu")
    if not orthogonal:
        return gaussian
    square = torch.randn(math.ceil(num_features / dim), dim, dim, generator=generator, device="cpu")
    q, r = torch.linalg.qr(square)
    # Without the signs of r's diagonal, q would depend on LAPACK's convention and not be uniform.
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
    return q.mT.reshape(-1, dim)[:num_features] * gaussian.norm(dim=1, keepdim=True)


class Performer(nn.Module):
    """Attention by random features; see ``AttentionPlugin`` for the call.

    Args:
        kind: "softmax" or "relu", the kernel of the features.
        num_features: how many.
        orthogonal: see ``draw_projection``.
        epsilon: added to relu features, so that no query is orthogonal to all keys.
        projection: fixed directions, or None to draw them from torch's default CPU generator at each call.
    """

    projection: Tensor | None

    def __init__(
        self, kind: Kind, num_features: int, orthogonal: bool, epsilon: float, projection: Tensor | None
    ) -> None:
        super().__init__()
        self.kind = kind
        self.num_features = num_features
        self.orthogonal = orthogonal
        self.epsilon = epsilon
        self.register_buffer("projection", projection)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; the largest tensors between are ``[B, H, N, num_features]``."""
        projection = self.projection
        if projection is None:
            projection = draw_projection(self.num_features, q.shape[-1], self.orthogonal, None)
        # Not scaled before the product: relu's kinks stay where the inputs and directions put them, in any dtype.
        projection = projection.to(q)
        features = _softmax_features if self.kind == "softmax" else self._relu_features
        query_features, key_features = features(q, k, projection, key_padding_mask)
        state = key_features.mT @ v
        total = key_features.sum(-2).unsqueeze(-1)
        norm = query_features @ total
        return query_features @ state / norm.masked_fill(norm == 0, 1)  # zero: a sequence of padding alone

    def _relu_features(
        self, q: Tensor, k: Tensor, projection: Tensor, key_padding_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        # Both features lack the factor d^(-1/4), which cancels in the quotient, and so does the keys' other scale:
        # it keeps the sums over all keys inside float16.
        epsilon = self.epsilon * q.shape[-1] ** 0.25
        query_features = (q @ projection.mT).relu() + epsilon
        key_features = ((k @ projection.mT).relu() + epsilon) / math.sqrt(k.shape[2] * k.shape[3] * self.num_features)
        if key_padding_mask is not None:
            key_features = key_features * key_padding_mask[:, None, :, None]
        return query_features, key_features


def _softmax_features(
    q: Tensor, k: Tensor, projection: Tensor, key_padding_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``exp(w x - |x|^2 / 2)`` of both sides, up to factors that cancel in the quotient.

    Each feature of the keys is divided by its maximum over the keys, which the queries' feature is multiplied with,
    and each query by its largest feature: so every denominator is at least 1 and no exponent is above 0. A query's
    norm cancels altogether. The stabilisers take no gradient, as the result does not depend on them.
    """
    wide = torch.promote_types(q.dtype, torch.float32)  # an exponent in bfloat16 would be wrong by percents
    scale = q.shape[-1] ** -0.25  # half of softmax's 1/sqrt(d) for each side
    key_exponents = (k @ projection.mT).to(wide) * scale - k.to(wide).square().sum(-1, keepdim=True) * (scale**2 / 2)
    if key_padding_mask is not None:
        key_exponents = key_exponents.masked_fill(
            ~key_padding_mask[:, None, :, None],
            torch.finfo(wide).min / 2,  # its exp is 0; -inf - -inf would be NaN
        )
    largest = key_exponents.detach().amax(-2, keepdim=True)
    query_exponents = (q @ projection.mT).to(wide) * scale + largest
    query_exponents = query_exponents - query_exponents.detach().amax(-1, keepdim=True)
    return query_exponents.exp().to(q.dtype), (key_exponents - largest).exp().to(q.dtype)


class PerformerPlugin(AttentionPlugin):
    """FAVOR+ with the features of ``kind``."""

    capabilities = Capabilities(cross_attention=True, compile=True)

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = f"performer_{kind}"
        kernel = "positive features of softmax's kernel" if kind == "softmax" else "relu features"
        self.summary = f"Performer with m random {kernel}; O(n m d) time, O(n m) memory"
        self.source = "Choromanski et al., ICLR 2021, https://arxiv.org/abs/2009.14794; written here"
        self.estimates = "softmax" if kind == "softmax" else None
        self.budget = "num_features" if kind == "softmax" else None

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``num_features`` (m), ``orthogonal`` directions, ``redraw``; for relu also ``epsilon``.

        With ``redraw`` directions come from torch's default CPU generator at each call; without, once from the spec's
        seed. A quality case redraws by default, as it compares draws.
        """
        knobs: dict[str, Scalar] = {
            "num_features": 256,
            "orthogonal": True,
            "redraw": isinstance(spec, QualitySpec),
        }
        return knobs if self.kind == "softmax" else knobs | {"epsilon": 1e-3}

    def unsupported(self, spec: Spec) -> list[str]:
        """A device that is not there; no features."""
        features = int(self.knobs(spec)["num_features"])
        few = [f"num_features must be at least 1, got {features}"] if features < 1 else []
        return [*device_reasons(spec), *few]

    def kernel(self, spec: Spec) -> str:
        """The operations in order."""
        return f"torch matmul, {self.kind} features, matmul, matmul, division on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Query and key are projected to the features."""
        if not isinstance(spec, OperationSpec):
            return None
        return cost.features(spec, int(self.knobs(spec)["num_features"]), projections=2)

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights, its directions are a buffer where they are fixed."""
        knobs = self.knobs(spec)
        features, orthogonal = int(knobs["num_features"]), bool(knobs["orthogonal"])
        fixed = None if knobs["redraw"] else self._projection(spec).to(spec.device)
        return Performer(self.kind, features, orthogonal, float(knobs.get("epsilon", 0.0)), fixed)

    def _projection(self, spec: Spec) -> Tensor:
        """The directions of a spec; a call that redraws them does so from torch's default generator."""
        knobs = self.knobs(spec)
        generator = None if knobs["redraw"] else torch.Generator("cpu").manual_seed(spec.seed)
        return draw_projection(int(knobs["num_features"]), head_dim(spec), bool(knobs["orthogonal"]), generator)

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The kernel of every pair as the mean over features, normalised over the keys.

        Softmax features follow lemma 1 of the paper, ``exp(w x - |x|^2 / 2)``, with ``x`` scaled by ``d^(-1/4)``.
        """
        projection = self._projection(spec).to(torch_dtype(spec.dtype)).to(q)
        root = q.shape[-1] ** 0.25
        along_q, along_k = q[:, :, rows] @ projection.mT / root, k @ projection.mT / root
        hidden = None if key_padding_mask is None else ~key_padding_mask[:, None, :, None]
        if self.kind == "relu":
            epsilon = float(self.knobs(spec)["epsilon"])
            phi_q, phi_k = along_q.relu() + epsilon, along_k.relu() + epsilon
            phi_k = phi_k if hidden is None else phi_k.masked_fill(hidden, 0)
        else:
            exponents = along_k - (k / root).square().sum(-1, keepdim=True) / 2
            exponents = exponents if hidden is None else exponents.masked_fill(hidden, -math.inf)
            # exp of these overflows float16; what is taken from a feature of all keys is given to the query's.
            shift = exponents.detach().amax(-2, keepdim=True)
            along_q = along_q + shift
            phi_q, phi_k = (along_q - along_q.detach().amax(-1, keepdim=True)).exp(), (exponents - shift).exp()
        # The denominator sums over features last, as in the paper's equation 5, and in the other order: summed alike,
        # the rounding of both would cancel where there are one or two keys.
        phi_k = phi_k / projection.shape[0]
        total = phi_q.flip(-1) @ phi_k.sum(-2).flip(-1).unsqueeze(-1)
        return phi_q @ phi_k.mT @ v / total


SOFTMAX = PerformerPlugin("softmax")
RELU = PerformerPlugin("relu")
