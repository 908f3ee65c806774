"""Sampled YOSO: attention weights estimated from hash collisions, in linear time and memory."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import yoso.attention
from harness.attentions.shared import cost
from harness.core.attention_shape import device_reasons
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, QualitySpec, Scalar, Spec
from yoso.build import jit
from yoso.ops import hashing, operators, reference
from yoso.ops.arguments import check_hash_code_len, check_normalization, check_num_hash
from yoso.ops.estimators import KEYS_PER_HASH, check_estimator, check_shared_keys, draw_shared_keys

POSITIONS_PER_STEP = {"cpu": 2**16, "cuda": 2**20}
"""How many positions, over all heads, the oracle hashes at a time, by device; other devices use the CPU's number."""


@dataclass(frozen=True)
class Rescoring:
    """The knobs of the estimator."""

    estimator: str
    shared_keys: int
    floor: float
    rest: bool

    @classmethod
    def of(cls, knobs: Mapping[str, Scalar]) -> "Rescoring":
        """Read from a plugin's knobs."""
        return cls(
            str(knobs["estimator"]),
            int(knobs["shared_keys"]),
            float(knobs["rescore_floor"]),
            bool(knobs["rescore_rest"]),
        )

    def check(self, num_key: int) -> None:
        """Raise ``ValueError`` for a value that sequences of this length do not allow."""
        check_estimator(self.estimator, self.floor)
        check_shared_keys(self.shared_keys, num_key if self.estimator == "rescored" else None)

    def shared_keys_of(self, key: Tensor) -> int:
        """How many keys are shared, at most all of key ``[B, H, N, D]``: calls may be shorter than the case."""
        return min(self.shared_keys, key.shape[2])


class YosoSamplingModule(nn.Module):
    """``yoso.attention.yoso_sampling`` with fixed parameters; each call draws new hash planes."""

    def __init__(
        self,
        num_hash: int,
        hash_code_len: int,
        hash_family: str,
        lsh_backward: bool,
        normalization: str,
        norm_floor: float,
        rescoring: "Rescoring",
    ) -> None:
        super().__init__()
        self.num_hash = num_hash
        self.hash_code_len = hash_code_len
        self.hash_family = hash_family
        self.lsh_backward = lsh_backward
        self.normalization = normalization
        self.norm_floor = norm_floor
        self.rescoring = rescoring

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """See ``harness.core.plugin.AttentionPlugin``."""
        return yoso.attention.yoso_sampling(
            q,
            k,
            v,
            key_padding_mask,
            num_hash=self.num_hash,
            hash_code_len=self.hash_code_len,
            hash_family=self.hash_family,
            lsh_backward=self.lsh_backward,
            normalization=self.normalization,
            norm_floor=self.norm_floor,
            estimator=self.rescoring.estimator,
            shared_keys=self.rescoring.shared_keys_of(k),
            rescore_floor=self.rescoring.floor,
            rescore_rest=self.rescoring.rest,
        )


class YosoSamplingPlugin(AttentionPlugin):
    """Sampled YOSO, estimated with hashes."""

    name = "yoso"
    summary = "sampled YOSO: YOSO-E estimated with m hashes of tau bits; O(n m d) time, O(n) memory"
    source = "Zeng et al., ICML 2021, https://arxiv.org/abs/2111.09714"
    estimates = "yoso_e"
    budget = "num_hash"
    # The kernel adds the collisions of all hashes one after another in float32, the oracle counts them exactly. In few
    # tokens, where most hashes collide, that rounds by about sqrt(num_hash) halves of an epsilon: 9.3e-7 was measured
    # with 256 hashes. This is enough for 1,024.
    kernel_error = 16 * torch.finfo(torch.float32).eps
    capabilities = Capabilities(cross_attention=True, compile=True)

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The parameters of ``yoso.attention.yoso_sampling``.

        - ``num_hash``: hashes (m); the error against YOSO-E falls as 1 / sqrt(m).
        - ``hash_code_len``: bits per hash (tau, 1 to 16); by default log2 of the length.
        - ``hash_family``: how hash planes are drawn: "gaussian", "hadamard" or "hadamard_authors".
        - ``lsh_backward``: True estimates gradients from the hash collisions; False computes them over all pairs.
        - ``normalization``: "l2" scales the weighted sums to length 1, "sum" divides them by the sum of the weights.
        - ``norm_floor``: at least 0; above 0, rows with few collisions become short (see ``yoso.ops.normalization``).
        - ``estimator``: "collisions" counts collisions; "rescored" computes the weights of colliding pairs and divides
          them by the probability that they are found. The knobs that follow are those of the latter.
        - ``shared_keys``: random keys per head that every query looks at as well; by default 64, or all of fewer.
        - ``rescore_floor``: the smallest probability that it divides by, 0 to 1.
        - ``rescore_rest``: whether the weight that the floor takes away goes to the mean of the values.
        """
        return {
            "num_hash": 32,
            "hash_code_len": hashing.default_hash_code_len(spec.seq_len),
            "hash_family": "hadamard",
            "lsh_backward": True,
            "normalization": "l2",
            "norm_floor": 0.0,
            "estimator": "collisions",
            "shared_keys": min(64, spec.seq_len),
            "rescore_floor": 0.2,
            "rescore_rest": True,
        }

    def unsupported(self, spec: Spec) -> list[str]:
        """A missing device, knobs out of range, or a hash family that does not support these sizes."""
        knobs, missing = self.knobs(spec), device_reasons(spec)
        try:
            check_normalization(knobs["normalization"], knobs["norm_floor"])
            if not isinstance(spec, OperationSpec | QualitySpec):
                return missing
            check_num_hash(int(knobs["num_hash"]))
            check_hash_code_len(int(knobs["hash_code_len"]))
            hashing.planes_shape(
                str(knobs["hash_family"]),
                groups=1,
                head_dim=spec.head_dim,
                num_hash=int(knobs["num_hash"]),
                hash_code_len=int(knobs["hash_code_len"]),
            )
            Rescoring.of(knobs).check(spec.seq_len)
        except ValueError as error:
            return [*missing, str(error)]
        return missing

    def kernel(self, spec: Spec) -> str:
        """Native kernels or plain torch, whichever ``yoso.build`` provides."""
        return jit.describe(spec.device)

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Hashing, and gathering the values of colliding keys; see ``harness.attentions.shared.cost``."""
        if not isinstance(spec, OperationSpec):
            return None
        knobs = self.knobs(spec)
        family, hashes, tau = str(knobs["hash_family"]), int(knobs["num_hash"]), int(knobs["hash_code_len"])
        rotations = projections = 0
        # A Hadamard rotation is also a product with a matrix of small integers, which 16-bit matrix units compute
        # faster than the butterfly additions.
        on_matrix_units = torch.device(spec.device).type == "cuda" and spec.dtype != "float32"
        if family == "gaussian" or on_matrix_units:
            projections = hashes * tau
        else:
            blocks = hashing.num_blocks(family, head_dim=spec.head_dim, num_hash=hashes, hash_code_len=tau)
            rotations = hashing.SHARED_ROUNDS[family] + blocks * hashing.BLOCK_ROUNDS[family]
        rescoring = Rescoring.of(knobs)
        if rescoring.estimator == "rescored":
            pairs = rescoring.shared_keys + hashes * min(KEYS_PER_HASH, spec.seq_len / 2**tau)
            return cost.yoso_rescored(spec, pairs, hashes, rotations, projections)
        return cost.yoso_sampling(spec, hashes, tau, rotations, projections)

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights."""
        knobs = self.knobs(spec)
        return YosoSamplingModule(
            int(knobs["num_hash"]),
            int(knobs["hash_code_len"]),
            str(knobs["hash_family"]),
            bool(knobs["lsh_backward"]),
            str(knobs["normalization"]),
            float(knobs["norm_floor"]),
            Rescoring.of(knobs),
        )

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition: collisions of the same hash planes, counted or rescored for each pair.

        Hash bits are computed in float64. Only bits that float32 rounding may decide are taken from the kernel.
        """
        knobs = self.knobs(spec)
        family, tau = str(knobs["hash_family"]), int(knobs["hash_code_len"])
        sizes = {"num_hash": int(knobs["num_hash"]), "hash_code_len": tau}
        groups = q.shape[0] * q.shape[1]
        planes = hashing.draw_planes(
            family, groups=groups, head_dim=q.shape[3], num_hash=sizes["num_hash"], hash_code_len=tau, device=q.device
        )

        def codes(x: Tensor) -> Tensor:
            x = x.detach().float()
            kernel_codes = operators.fast_hash(x.to(spec.device), planes.to(spec.device), hash_family=family, **sizes)
            kernel_codes, vectors = kernel_codes.to(x.device).flatten(0, 1), x.flatten(0, 1)
            # Heads and positions are processed in steps: all projections at once would not fit in memory, and one head
            # at a time would be slow.
            step = POSITIONS_PER_STEP.get(x.device.type, POSITIONS_PER_STEP["cpu"])
            heads_per_step = max(1, step // x.shape[2])

            def exact_codes(first: int) -> Tensor:
                heads = slice(first, first + heads_per_step)
                parts = zip(kernel_codes[heads].split(step, -1), vectors[heads].split(step, 1), strict=True)
                return torch.cat(
                    [
                        reference.settle_codes(part[None], vector[None], planes[heads], hash_family=family, **sizes)[0]
                        for part, vector in parts
                    ],
                    -1,
                )

            codes_of_heads = torch.cat([exact_codes(first) for first in range(0, groups, heads_per_step)])
            return codes_of_heads.reshape(*x.shape[:2], *kernel_codes.shape[1:])

        queries = q[:, :, rows]
        pairs, rescoring = (codes(queries), codes(k)), Rescoring.of(knobs)
        normalization = str(knobs["normalization"]), float(knobs["norm_floor"])
        if rescoring.estimator == "collisions":
            return reference.yoso_sampling(
                *(queries, k, v, *pairs, None, key_padding_mask),
                hash_code_len=tau,
                normalization=normalization[0],
                norm_floor=normalization[1],
            )
        ids = draw_shared_keys(rescoring.shared_keys_of(k), k.shape[:3], key_padding_mask, device=k.device)

        def total(x: Tensor) -> Tensor:
            return reference.yoso_rescored(
                *(queries, k, x, *pairs, ids, None, key_padding_mask),
                hash_code_len=tau,
                keys_per_query=KEYS_PER_HASH * sizes["num_hash"],
                floor=rescoring.floor,
                rest=rescoring.rest,
            )

        return reference.normalized(total, v, key_padding_mask, *normalization)
