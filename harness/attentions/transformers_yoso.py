"""transformers' sampled YOSO on the kernels of YOSO's authors, the rival of ``yoso``: CUDA and float32."""

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from harness.attentions.shared import cost
from harness.attentions.shared.capacity import device_reasons
from harness.core.attention_shape import batch_and_heads, has_backward, head_dim
from harness.core.capabilities import Capabilities
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec, Scalar, Spec
from yoso.ops import hashing, reference

EXTENSION = "fast_lsh_cumulation"
"""The module that the authors' repository builds; ``tests/gpu/authors_kernels.py`` builds it from a clone."""
MOST_BACKWARD_BITS = 13
"""The backward kernel asks for 2^tau counters of 4 bytes, and not for more than 48 KiB of shared memory."""


class TransformersYosoSamplingModule(nn.Module):
    """``YosoLSHCumulation`` of transformers' modeling_yoso with the normalisations that its layer puts around it."""

    def __init__(self, kernels: ModuleType, num_hash: int, hash_code_len: int) -> None:
        super().__init__()
        from transformers.models.yoso import modeling_yoso  # takes seconds to import

        vars(modeling_yoso)["lsh_cumulation"] = kernels  # as its load_cuda_kernels does
        self.cumulation = modeling_yoso.YosoLSHCumulation.apply
        self.sizes = {"num_hash": num_hash, "hash_code_len": hash_code_len, "use_fast_hash": True, "lsh_backward": True}

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """See ``harness.core.plugin.AttentionPlugin``."""
        query, key = (normalize(x.flatten(0, 1), dim=-1) for x in (q, k))
        mask = _mask(q, key_padding_mask)
        out = self.cumulation(mask, mask, query, key, v.flatten(0, 1), self.sizes)
        return normalize(out, dim=-1).unflatten(0, q.shape[:2])


def _mask(x: Tensor, key_padding_mask: Tensor | None) -> Tensor:
    """int32 ``[B * H, N]``, as the kernels take it."""
    batch, heads, n = x.shape[:3]
    if key_padding_mask is None:
        return torch.ones(batch * heads, n, dtype=torch.int32, device=x.device)
    return key_padding_mask.to(torch.int32).repeat_interleave(heads, 0)


@cache
def _kernels() -> ModuleType | str:
    """The module that the authors' repository builds, else transformers' download, or what is missing."""
    try:
        return import_module(EXTENSION)
    except ImportError as error:
        missing = f"{EXTENSION} does not import ({error})"
    try:
        from transformers.models.yoso import modeling_yoso

        modeling_yoso.load_cuda_kernels()
        found: ModuleType = vars(modeling_yoso)["lsh_cumulation"]
        return found
    except Exception as error:  # a download can fail in any way
        reason = f"transformers' own download fails ({str(error).splitlines()[0]})"
    return (
        f"{missing} and {reason}: clone https://github.com/mlpen/YOSO, then "
        "python tests/gpu/authors_kernels.py CLONE FOLDER, and put FOLDER on PYTHONPATH"
    )


class TransformersYosoSampling(AttentionPlugin):
    """The rival from transformers and YOSO's authors."""

    name = "transformers_yoso"
    summary = "sampled YOSO as transformers computes it, on the kernels of YOSO's authors: float32, atomic additions"
    source = "transformers, models/yoso/modeling_yoso.py; kernels: yoso_v1 of https://github.com/mlpen/YOSO"
    estimates = "yoso_e"
    budget = "num_hash"
    capabilities = Capabilities(
        devices=("cuda",),
        dtypes=("float32",),
        head_dims="32, 64, 128, 256",
        deterministic=False,
        why={
            "devices": "the authors' kernels are CUDA's",
            "dtypes": "the authors' kernels are written for float32",
            "head_dims": "the authors' kernels take powers of two, of whole warps",
            "deterministic": "the authors' kernels add with atomics",
        },
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """``num_hash`` (m) and ``hash_code_len`` (tau: log2 of the length)."""
        return {"num_hash": 32, "hash_code_len": hashing.default_hash_code_len(spec.seq_len)}

    def unsupported(self, spec: Spec) -> list[str]:
        """No CUDA or kernels; and sizes for which the kernels would leave tokens out or address what is not theirs."""
        reasons = device_reasons(spec)
        if torch.device(spec.device).type != "cuda":
            reasons.append(f"the authors' kernels run on CUDA, not on {torch.device(spec.device).type}")
        elif not reasons and isinstance(found := _kernels(), str):
            reasons.append(found)
        return [*reasons, *self._sizes(spec)]

    def _sizes(self, spec: Spec) -> list[str]:
        knobs = self.knobs(spec)
        hashes, tau, dim = int(knobs["num_hash"]), int(knobs["hash_code_len"]), head_dim(spec)
        batch, heads = batch_and_heads(spec)
        backward = has_backward(spec)
        step = max(8, 256 // max(1, hashes)) if backward else 8
        most_bits = min(dim, MOST_BACKWARD_BITS if backward else 16)
        numbers = batch * heads * hashes * 2**tau * 32
        rules = [
            (spec.dtype == "float32", f"dtype must be float32, got {spec.dtype}"),
            (dim in (32, 64, 128, 256), f"head_dim must be 32, 64, 128 or 256, got {dim}"),
            (
                spec.seq_len % step == 0,
                f"seq_len must be a multiple of {step}, or tokens are left out; got {spec.seq_len}",
            ),
            (spec.seq_len < 2**16, f"seq_len must be below 65536, got {spec.seq_len}"),
            (0 < hashes <= 32 or hashes % 32 == 0, f"num_hash must be up to 32 or a multiple of 32, got {hashes}"),
            (1 <= tau <= most_bits, f"hash_code_len must be 1 to {most_bits}, got {tau}"),
            (
                numbers < 2**31,
                f"a table's numbers must be fewer than 2^31, got {numbers}: batch, heads, m 2^tau and 32",
            ),
        ]
        return [f"the authors' kernels: {reason}" for holds, reason in rules if not holds]

    def kernel(self, spec: Spec) -> str:
        """The module that has the kernels."""
        return f"{getattr(_kernels(), '__name__', EXTENSION)} on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """What ``yoso`` must do with the same number of rotations."""
        if not isinstance(spec, OperationSpec):
            return None
        knobs = self.knobs(spec)
        hashes, tau = int(knobs["num_hash"]), int(knobs["hash_code_len"])
        blocks = hashing.num_blocks("hadamard_authors", head_dim=spec.head_dim, num_hash=hashes, hash_code_len=tau)
        return cost.yoso_sampling(spec, hashes, tau, blocks * hashing.BLOCK_ROUNDS["hadamard_authors"], 0)

    def build(self, spec: Spec) -> nn.Module:
        """The module; it has no weights.

        Raises:
            RuntimeError: the kernels are not there.
        """
        if isinstance(kernels := _kernels(), str):
            raise RuntimeError(kernels)
        knobs = self.knobs(spec)
        return TransformersYosoSamplingModule(kernels, int(knobs["num_hash"]), int(knobs["hash_code_len"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The collisions of the kernels' own codes, counted pair by pair: the hashing is taken as it is."""
        knobs = self.knobs(spec)
        hashes, tau = int(knobs["num_hash"]), int(knobs["hash_code_len"])
        if isinstance(kernels := _kernels(), str):
            raise RuntimeError(kernels)
        unit = [normalize(x.detach().float().to(spec.device).flatten(0, 1), dim=-1) for x in (q[:, :, rows], k)]
        masks = [torch.ones(x.shape[:2], dtype=torch.int32, device=x.device) for x in unit]
        found = kernels.fast_hash(masks[0], unit[0], masks[1], unit[1], hashes, tau, True, 1)
        query_codes, key_codes = (
            x.transpose(1, 2).unflatten(0, q.shape[:2]).to(q.device, torch.uint16).contiguous() for x in found
        )
        return reference.yoso_sampling(
            q[:, :, rows], k, v, query_codes, key_codes, None, key_padding_mask, hash_code_len=tau
        )
