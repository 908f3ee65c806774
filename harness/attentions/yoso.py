"""Sampled YOSO: the collision probability estimated from hash collisions; linear time and memory."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

import yoso.attention
from harness.attentions.shared import cost
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, QualitySpec, Scalar, Spec
from yoso.build import jit
from yoso.ops import hashing, operators, reference
from yoso.ops.arguments import check_hash_code_len, check_num_hash

SETTLED = {"cpu": 2**16, "cuda": 2**20}
"""Positions of all heads whose codes the oracle settles at a time, by device; on others as on the CPU."""


class YosoSamplingModule(nn.Module):
    """``yoso.attention.yoso_sampling`` with its parameters fixed; planes are drawn anew at each call."""

    def __init__(self, num_hash: int, hash_code_len: int, hash_family: str, lsh_backward: bool) -> None:
        super().__init__()
        self.num_hash = num_hash
        self.hash_code_len = hash_code_len
        self.hash_family = hash_family
        self.lsh_backward = lsh_backward

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
        )


class YosoSampling(AttentionPlugin):
    """YOSO by hashing."""

    name = "yoso"
    summary = "YOSO sampled by m hashes of tau bits; O(n m d) time, O(n) memory"
    source = "Zeng et al., ICML 2021, https://arxiv.org/abs/2111.09714"
    estimates = "yoso_e"
    budget = "num_hash"
    capabilities = Capabilities(cross_attention=True, compile=True)

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``num_hash`` (m), ``hash_code_len`` (tau: log2 of the length), ``hash_family``, ``lsh_backward``."""
        tau = hashing.default_hash_code_len(spec.seq_len)
        return {"num_hash": 32, "hash_code_len": tau, "hash_family": "hadamard", "lsh_backward": True}

    def unsupported(self, spec: Spec) -> list[str]:
        """Numbers out of range; a family that cannot serve these sizes."""
        knobs = self.knobs(spec)
        if not isinstance(spec, OperationSpec | QualitySpec):
            return []
        try:
            check_num_hash(int(knobs["num_hash"]))
            check_hash_code_len(int(knobs["hash_code_len"]))
            hashing.planes_shape(
                str(knobs["hash_family"]),
                groups=1,
                head_dim=spec.head_dim,
                num_hash=int(knobs["num_hash"]),
                hash_code_len=int(knobs["hash_code_len"]),
            )
        except ValueError as error:
            return [str(error)]
        return []

    def kernel(self, spec: Spec) -> str:
        """Native or plain torch, as ``yoso.build`` found."""
        return jit.describe(spec.device)

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """Hashing and the gathers of the cumulation; see ``harness.attentions.shared.cost``."""
        if not isinstance(spec, OperationSpec):
            return None
        knobs = self.knobs(spec)
        family, hashes, tau = str(knobs["hash_family"]), int(knobs["num_hash"]), int(knobs["hash_code_len"])
        rotations = projections = 0
        # A Hadamard rotation is a matrix of small integers: 16-bit matrix units take it in less than its butterflies.
        on_matrix_units = torch.device(spec.device).type == "cuda" and spec.dtype != "float32"
        if family == "gaussian" or on_matrix_units:
            projections = hashes * tau
        else:
            blocks = hashing.num_blocks(family, head_dim=spec.head_dim, num_hash=hashes, hash_code_len=tau)
            rotations = hashing.SHARED_ROUNDS[family] + blocks * hashing.BLOCK_ROUNDS[family]
        return cost.yoso_sampling(spec, hashes, tau, rotations, projections)

    def build(self, spec: Spec) -> nn.Module:
        """See the base class."""
        knobs = self.knobs(spec)
        return YosoSamplingModule(
            int(knobs["num_hash"]),
            int(knobs["hash_code_len"]),
            str(knobs["hash_family"]),
            bool(knobs["lsh_backward"]),
        )

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The collisions of the same planes, counted pair by pair.

        Bits are settled in float64; only those that float32 rounding leaves open are taken from the kernel.
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
            given = operators.fast_hash(x.to(spec.device), planes.to(spec.device), hash_family=family, **sizes)
            given, rows = given.to(x.device).flatten(0, 1), x.flatten(0, 1)
            # By heads and stretches: the projections of all at once would not fit, and one head at a time waits.
            at_a_time = SETTLED.get(x.device.type, SETTLED["cpu"])
            heads = max(1, at_a_time // x.shape[2])

            def settled(first: int) -> Tensor:
                some = slice(first, first + heads)
                parts = zip(given[some].split(at_a_time, -1), rows[some].split(at_a_time, 1), strict=True)
                return torch.cat(
                    [
                        reference.settle_codes(one[None], its[None], planes[some], hash_family=family, **sizes)[0]
                        for one, its in parts
                    ],
                    -1,
                )

            every = torch.cat([settled(first) for first in range(0, groups, heads)])
            return every.reshape(*x.shape[:2], *given.shape[1:])

        return reference.yoso_sampling(
            q[:, :, rows], k, v, codes(q[:, :, rows]), codes(k), None, key_padding_mask, hash_code_len=tau
        )
