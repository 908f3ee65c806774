"""Sampled YOSO as implemented in transformers, the rival of ``yoso``: the authors' CUDA kernels, in float32."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
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

HUB_KERNELS = "kernels-community/yoso"
"""The kernels' repository on the Hugging Face Hub, from which transformers loads them with the package ``kernels``."""
HUB_VERSION = 1
"""The version of ``HUB_KERNELS`` that transformers asks for."""
FUNCTIONS = ("fast_hash", "lsh_cumulation", "lsh_weighted_cumulation")
"""The functions of ``HUB_KERNELS`` that transformers calls."""
MAX_BACKWARD_BITS = 13
"""The backward kernel needs 2^tau counters of 4 bytes and does not request more than 48 KiB of shared memory."""


class TransformersYosoSamplingModule(nn.Module):
    """transformers' ``YosoLSHCumulation``, with the normalisations that its layer applies before and after."""

    def __init__(self, kernels: ModuleType, num_hash: int, hash_code_len: int) -> None:
        super().__init__()
        from transformers.models.yoso import modeling_yoso  # takes seconds to import

        vars(modeling_yoso)["lsh_cumulation"] = kernels  # YosoLSHCumulation calls the functions of this global
        self.cumulation = modeling_yoso.YosoLSHCumulation.apply
        self.sizes = {"num_hash": num_hash, "hash_code_len": hash_code_len, "use_fast_hash": True, "lsh_backward": True}

    def forward(self, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """See ``harness.core.plugin.AttentionPlugin``."""
        query, key = (normalize(x.flatten(0, 1), dim=-1) for x in (q, k))
        mask = _mask(q, key_padding_mask)
        out = self.cumulation(mask, mask, query, key, v.flatten(0, 1), self.sizes)
        return normalize(out, dim=-1).unflatten(0, q.shape[:2])


def _mask(x: Tensor, key_padding_mask: Tensor | None) -> Tensor:
    """The mask as the kernels take it: int32 ``[B * H, N]``, 1 for a real token."""
    batch, heads, n = x.shape[:3]
    if key_padding_mask is None:
        return torch.ones(batch * heads, n, dtype=torch.int32, device=x.device)
    return key_padding_mask.to(torch.int32).repeat_interleave(heads, 0)


@cache
def _kernels() -> ModuleType | str:
    """The kernels that transformers finds, or the reason why it finds none.

    Nothing is downloaded unless the package ``kernels`` is installed in a version that transformers accepts.
    """
    try:
        return _package_reason() or _load_kernels()
    except Exception as error:  # an import or a download can fail in any way
        first_line = str(error).strip().partition("\n")[0]
        return (
            f"transformers could not load its YOSO kernels ({type(error).__name__}: {first_line}); they are downloaded "
            f"from https://huggingface.co/{HUB_KERNELS} at first use, so check the network and the message"
        )


def _package_reason() -> str | None:
    """Why transformers cannot use the package ``kernels``, and how to install it; None if it can."""
    if find_spec("kernels") is None:
        return "transformers loads its YOSO kernels with the package 'kernels', which is missing: pip install kernels"

    from transformers.utils import is_kernels_available

    if is_kernels_available():
        return None
    return (
        f"transformers {version('transformers')} does not accept the installed version {version('kernels')} of the "
        "package 'kernels', with which it loads its YOSO kernels: pip install 'transformers[kernels]'"
    )


def _load_kernels() -> ModuleType:
    """Let transformers load the kernels, from its cache or the Hub."""
    from transformers.integrations import hub_kernels
    from transformers.models.yoso import modeling_yoso

    modeling_yoso.load_cuda_kernels()
    kernels: ModuleType = vars(modeling_yoso)["lsh_cumulation"]
    if not _is_complete(kernels):
        # transformers 5.23 stores only the function `lsh_cumulation` of the downloaded module, on which
        # YosoLSHCumulation then looks for all three functions. The module itself has them.
        kernels = hub_kernels.get_kernel(HUB_KERNELS, version=HUB_VERSION)
    if not _is_complete(kernels):
        raise ImportError(f"the loaded module lacks one of the functions {', '.join(FUNCTIONS)}")
    return kernels


def _is_complete(kernels: ModuleType) -> bool:
    return all(hasattr(kernels, name) for name in FUNCTIONS)


class TransformersYosoSamplingPlugin(AttentionPlugin):
    """Sampled YOSO from transformers, on the CUDA kernels of YOSO's authors."""

    name = "transformers_yoso"
    summary = "sampled YOSO as in transformers, on the CUDA kernels of YOSO's authors; O(n m d) time, O(n m) memory"
    source = (
        "transformers, models/yoso/modeling_yoso.py; kernels: https://huggingface.co/kernels-community/yoso, from "
        "yoso_v1 of https://github.com/mlpen/YOSO"
    )
    estimates = "yoso_e"
    budget = "num_hash"
    capabilities = Capabilities(
        devices=("cuda",),
        dtypes=("float32",),
        head_dims="32, 64, 128, 256",
        deterministic=False,
        why={
            "devices": "the kernels of YOSO's authors are CUDA kernels",
            "dtypes": "the kernels of YOSO's authors take only float32",
            "head_dims": "the kernels of YOSO's authors take powers of two that are multiples of a warp, 32",
            "deterministic": "the kernels of YOSO's authors sum with atomic additions",
        },
    )

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The number and length of the hashes.

        - ``num_hash``: hashes (m).
        - ``hash_code_len``: bits per hash (tau); by default log2 of the length.
        """
        return {"num_hash": 32, "hash_code_len": hashing.default_hash_code_len(spec.seq_len)}

    def unsupported(self, spec: Spec) -> list[str]:
        """No CUDA device, no kernels, or sizes for which the kernels skip tokens or access memory out of bounds."""
        reasons = device_reasons(spec)
        if torch.device(spec.device).type != "cuda":
            reasons.append(f"the kernels of YOSO's authors run on CUDA, not on {torch.device(spec.device).type}")
        elif not reasons and isinstance(reason := _kernels(), str):
            reasons.append(reason)
        return [*reasons, *self._size_reasons(spec)]

    def _size_reasons(self, spec: Spec) -> list[str]:
        knobs = self.knobs(spec)
        hashes, tau, dim = int(knobs["num_hash"]), int(knobs["hash_code_len"]), head_dim(spec)
        batch, heads = batch_and_heads(spec)
        backward = has_backward(spec)
        step = max(8, 256 // max(1, hashes)) if backward else 8
        max_bits = min(dim, MAX_BACKWARD_BITS if backward else 16)
        table_numbers = batch * heads * hashes * 2**tau * 32
        rules = [
            (spec.dtype == "float32", f"dtype must be float32, got {spec.dtype}"),
            (dim in (32, 64, 128, 256), f"head_dim must be 32, 64, 128 or 256, got {dim}"),
            (
                spec.seq_len % step == 0,
                f"seq_len must be a multiple of {step}, otherwise tokens are skipped; got {spec.seq_len}",
            ),
            (spec.seq_len < 2**16, f"seq_len must be below 65536, got {spec.seq_len}"),
            (0 < hashes <= 32 or hashes % 32 == 0, f"num_hash must be 1 to 32 or a multiple of 32, got {hashes}"),
            (1 <= tau <= max_bits, f"hash_code_len must be 1 to {max_bits}, got {tau}"),
            (
                table_numbers < 2**31,
                f"the hash table, batch * heads * num_hash * 2^hash_code_len * 32, must have fewer than 2^31 numbers, "
                f"got {table_numbers}",
            ),
        ]
        return [f"the kernels of YOSO's authors: {reason}" for holds, reason in rules if not holds]

    def kernel(self, spec: Spec) -> str:
        """The repository that has the kernels."""
        return f"{HUB_KERNELS}, loaded by transformers, on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The cost of ``yoso`` with the same number of Hadamard rotations."""
        if not isinstance(spec, OperationSpec):
            return None
        knobs = self.knobs(spec)
        hashes, tau = int(knobs["num_hash"]), int(knobs["hash_code_len"])
        blocks = hashing.num_blocks("hadamard_authors", head_dim=spec.head_dim, num_hash=hashes, hash_code_len=tau)
        return cost.yoso_sampling(spec, hashes, tau, blocks * hashing.BLOCK_ROUNDS["hadamard_authors"], 0)

    def build(self, spec: Spec) -> nn.Module:
        """The module, which has no weights.

        Raises:
            RuntimeError: transformers finds no kernels.
        """
        if isinstance(kernels := _kernels(), str):
            raise RuntimeError(kernels)
        knobs = self.knobs(spec)
        return TransformersYosoSamplingModule(kernels, int(knobs["num_hash"]), int(knobs["hash_code_len"]))

    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """Collisions of the kernels' own hash codes, counted for each pair; the hash codes are not verified."""
        knobs = self.knobs(spec)
        hashes, tau = int(knobs["num_hash"]), int(knobs["hash_code_len"])
        if isinstance(kernels := _kernels(), str):
            raise RuntimeError(kernels)
        unit = [normalize(x.detach().float().to(spec.device).flatten(0, 1), dim=-1) for x in (q[:, :, rows], k)]
        masks = [torch.ones(x.shape[:2], dtype=torch.int32, device=x.device) for x in unit]
        codes = kernels.fast_hash(masks[0], unit[0], masks[1], unit[1], hashes, tau, True, 1)
        query_codes, key_codes = (
            x.transpose(1, 2).unflatten(0, q.shape[:2]).to(q.device, torch.uint16).contiguous() for x in codes
        )
        return reference.yoso_sampling(
            q[:, :, rows], k, v, query_codes, key_codes, None, key_padding_mask, hash_code_len=tau
        )
