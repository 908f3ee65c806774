"""Performer (FAVOR+): attention through random features of queries and keys, of the softmax kernel or of ReLU."""

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.attentions.shared.precision import dtype_of_autocast, float16_in_float32
from harness.core.attention_shape import head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, QualitySpec, Scalar, Spec

Kind = Literal["softmax", "relu"]


def draw_projection(num_features: int, dim: int, orthogonal: bool, generator: torch.Generator | None) -> Tensor:
    """Draw the directions of the features: float32 ``[num_features, dim]`` on the CPU, each row standard normal.

    Args:
        num_features: number of rows.
        dim: size of one head.
        orthogonal: make each block of ``dim`` rows orthogonal: uniform orthogonal directions with the norms of
            independent Gaussian vectors (section 2.4 of the paper, "R-ORF").
        generator: source of randomness, or None for torch's default CPU generator.
    """
    gaussian = torch.randn(num_features, dim, generator=generator, device="cpu")
    if not orthogonal:
        return gaussian
    square = torch.randn(math.ceil(num_features / dim), dim, dim, generator=generator, device="cpu")
    q, r = torch.linalg.qr(square)
    # Without the signs of r's diagonal, q would follow LAPACK's sign convention and would not be uniform.
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]
    return q.mT.reshape(-1, dim)[:num_features] * gaussian.norm(dim=1, keepdim=True)


class Performer(nn.Module):
    """Attention by random features; see ``AttentionPlugin`` for the call.

    Args:
        kind: "softmax" or "relu", the kernel of the features.
        num_features: number of features, m.
        orthogonal: see ``draw_projection``.
        epsilon: added to ReLU features, so that no query is orthogonal to all keys.
        projection: fixed directions ``[num_features, D]``, or None to draw them from torch's default CPU generator at
            each call.
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

    @dtype_of_autocast
    @float16_in_float32
    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """``[B, H, N, D]`` to ``[B, H, N, D]``; the largest intermediates are ``[B, H, N, num_features]``."""
        projection = self.projection
        if projection is None:
            projection = draw_projection(self.num_features, q.shape[-1], self.orthogonal, None)
        # Not scaled before the product: scaling would round and could move values across the kink of ReLU.
        projection = projection.to(q)
        features = _softmax_features if self.kind == "softmax" else self._relu_features
        query_features, key_features = features(q, k, projection, key_padding_mask)
        state = key_features.mT @ v
        total = key_features.sum(-2).unsqueeze(-1)
        norm = query_features @ total
        return query_features @ state / norm.masked_fill(norm == 0, 1)  # zero if all keys are padding

    def _relu_features(
        self, q: Tensor, k: Tensor, projection: Tensor, key_padding_mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        # The factor d^(-1/4) is left out because it cancels in the quotient.
        epsilon = self.epsilon * q.shape[-1] ** 0.25
        query_features = (q @ projection.mT).relu() + epsilon
        key_features = (k @ projection.mT).relu() + epsilon
        if key_padding_mask is not None:
            key_features = key_features * key_padding_mask[:, None, :, None]
        return query_features, key_features


def _softmax_features(
    q: Tensor, k: Tensor, projection: Tensor, key_padding_mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """``exp(w x - |x|^2 / 2)`` of queries and keys, up to factors that cancel in the quotient.

    Each key feature is divided by its maximum over the keys, and the query feature is multiplied by that maximum; then
    each query is divided by its largest feature. So every denominator is at least 1 and no exponent is above 0. The
    norm of a query cancels altogether. The maxima are detached, because the result does not depend on them.
    """
    wide = torch.promote_types(q.dtype, torch.float32)  # a bfloat16 exponent would give errors of several percent
    scale = q.shape[-1] ** -0.25  # squared, it is the 1/sqrt(d) of softmax
    key_exponents = (k @ projection.mT).to(wide) * scale - k.to(wide).square().sum(-1, keepdim=True) * (scale**2 / 2)
    if key_padding_mask is not None:
        key_exponents = key_exponents.masked_fill(
            ~key_padding_mask[:, None, :, None],
            torch.finfo(wide).min / 2,  # exp gives 0; with -inf, -inf - -inf would be NaN
        )
    largest = key_exponents.detach().amax(-2, keepdim=True)
    query_exponents = (q @ projection.mT).to(wide) * scale + largest
    query_exponents = query_exponents - query_exponents.detach().amax(-1, keepdim=True)
    return query_exponents.exp().to(q.dtype), (key_exponents - largest).exp().to(q.dtype)


class PerformerPlugin(AttentionPlugin):
    """FAVOR+ with features of one kind, softmax or ReLU."""

    capabilities = Capabilities(cross_attention=True, compile=True)

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.name = f"performer_{kind}"
        kernel = "positive features that estimate softmax attention" if kind == "softmax" else "ReLU features"
        self.summary = f"Performer: m random {kernel}; O(n m d) time, O(n m) memory"
        self.source = "Choromanski et al., ICLR 2021, https://arxiv.org/abs/2009.14794; implemented here"
        self.estimates = "softmax" if kind == "softmax" else None
        self.budget = "num_features" if kind == "softmax" else None

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The number of features, and how their directions are drawn.

        - ``num_features``: random features per head (m).
        - ``orthogonal``: draw orthogonal directions instead of independent ones.
        - ``redraw``: draw new directions from torch's default CPU generator at each call; False draws them once, from
          the spec's seed. True by default in quality cases, which compare draws.
        - ``epsilon`` (ReLU features only): added to each feature.
        """
        knobs: dict[str, Scalar] = {
            "num_features": 256,
            "orthogonal": True,
            "redraw": isinstance(spec, QualitySpec),
        }
        return knobs if self.kind == "softmax" else knobs | {"epsilon": 1e-3}

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device, or fewer than one feature."""
        features = int(self.knobs(spec)["num_features"])
        few = [f"num_features must be at least 1, got {features}"] if features < 1 else []
        return [*device_reasons(spec), *few]

    def kernel(self, spec: Spec) -> str:
        """The torch operations, in order."""
        return f"torch matmul, {self.kind} features, matmul, matmul, division on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Linear attention on the features, plus the projections of queries and keys onto the directions."""
        if not isinstance(spec, OperationSpec):
            return None
        return cost.features(spec, int(self.knobs(spec)["num_features"]), projections=2)

    def build(self, spec: Spec) -> nn.Module:
        """The module. It has no weights; fixed directions are a buffer."""
        knobs = self.knobs(spec)
        features, orthogonal = int(knobs["num_features"]), bool(knobs["orthogonal"])
        fixed = None if knobs["redraw"] else self._projection(spec).to(spec.device)
        return Performer(self.kind, features, orthogonal, float(knobs.get("epsilon", 0.0)), fixed)

    def _projection(self, spec: Spec) -> Tensor:
        """The directions of a spec: from its seed, or with ``redraw`` from torch's default CPU generator."""
        knobs = self.knobs(spec)
        generator = None if knobs["redraw"] else torch.Generator("cpu").manual_seed(spec.seed)
        return draw_projection(int(knobs["num_features"]), head_dim(spec), bool(knobs["orthogonal"]), generator)

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The kernel of each pair as a mean over features, normalised over the keys.

        Softmax features follow lemma 1 of the paper, ``exp(w x - |x|^2 / 2)``, with ``x`` scaled by ``d^(-1/4)``.
        """
        # Rounded as in the module, because another direction is another kernel; the module computes float16 in float32.
        rounded = torch.bfloat16 if spec.dtype == "bfloat16" else torch.float32
        projection = self._projection(spec).to(rounded).to(q)
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
            # exp would overflow float16, so a maximum is moved from each key feature to the same query feature.
            shift = exponents.detach().amax(-2, keepdim=True)
            along_q = along_q + shift
            phi_q, phi_k = (along_q - along_q.detach().amax(-1, keepdim=True)).exp(), (exponents - shift).exp()
        # The denominator is summed over the features last, as in equation 5 of the paper, and in reverse order. If
        # numerator and denominator were summed in the same order, their rounding errors would cancel with one or two
        # keys, and the verifier would underestimate the error that rounding explains.
        phi_k = phi_k / projection.shape[0]
        total = phi_q.flip(-1) @ phi_k.sum(-2).flip(-1).unsqueeze(-1)
        return phi_q @ phi_k.mT @ v / total


SOFTMAX = PerformerPlugin("softmax")
RELU = PerformerPlugin("relu")
