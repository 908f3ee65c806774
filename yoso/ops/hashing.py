"""Hash families: how a vector becomes ``num_hash`` codes of ``hash_code_len`` bits, and how their planes are drawn.

A bit is the sign of a projection on a random direction, so two vectors at angle theta agree in all bits of one code
with probability (1 - theta / pi) ** hash_code_len when the directions of a code are independent.

- ``gaussian``: independent Gaussian directions; the probability is exact. O(n * num_hash * hash_code_len * d).
- ``hadamard``: bit t of hash h is coordinate h of H D_t (H D2 H D1 x), H the Hadamard matrix, D random signs. One
  shared rotation H D2 H D1 spreads x evenly; given it, the directions of a code's bits are independent signs.
  O(n * hash_code_len * d log d) for num_hash <= d.
- ``hadamard_authors``: the paper's own kernel (github.com/mlpen/YOSO): the bits of a code are neighbouring coordinates
  of one rotation H D3 H D2 H D1 x. Those directions are orthogonal, which lowers the collision probability of unlike
  vectors.

The costs are a CPU's: on CUDA all families are products with their directions, on the tensor cores.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_SIGNS_OF_A_DRAW = 32
_BITS = torch.arange(256, device="cpu")[:, None] >> torch.arange(8, device="cpu") & 1
_SIGNS_OF_OCTET = (_BITS * 2 - 1).to(torch.int8)
HASH_FAMILIES = ("gaussian", "hadamard", "hadamard_authors")
SHARED_ROUNDS = {"hadamard": 2, "hadamard_authors": 0}
"""Rounds H D of a Hadamard family that all its blocks start from."""
BLOCK_ROUNDS = {"hadamard": 1, "hadamard_authors": 3}
"""Rounds H D that each block adds."""


@dataclass(frozen=True)
class RotationLayout:
    """Where each bit lives in the rotations of a Hadamard family.

    ``block[h, t]`` and ``coordinate[h, t]`` (int32 ``[num_hash, hash_code_len]``) name the rotation and its output
    coordinate; ``blocks`` is the number of rotations and ``padded_dim`` their size, a power of two. Rows 0 to
    ``shared_rounds`` of the planes are the signs of the shared rounds, then come ``block_rounds`` rows a block.
    """

    blocks: int
    padded_dim: int
    shared_rounds: int
    block_rounds: int
    block: Tensor
    coordinate: Tensor


def default_hash_code_len(seq_len: int) -> int:
    """log2 of the length, 1 to 16: about one key a bucket, as the authors set it for long sequences."""
    return min(max((seq_len - 1).bit_length(), 1), 16)


def padded_dim(head_dim: int) -> int:
    """The smallest power of two that is at least ``head_dim``: the size of a Hadamard rotation."""
    return 1 << (head_dim - 1).bit_length()


def num_blocks(hash_family: str, *, head_dim: int, num_hash: int, hash_code_len: int) -> int:
    """How many rotations a Hadamard family needs.

    Raises:
        ValueError: ``hadamard_authors`` with a code longer than the rotation has coordinates.
    """
    dim = padded_dim(head_dim)
    if hash_family == "hadamard":
        return hash_code_len * -(-num_hash // dim)
    if hash_code_len > dim:
        raise ValueError(
            f"hash_family 'hadamard_authors' takes a code's {hash_code_len} bits (hash_code_len) from one rotation "
            f"of size {dim} (head_dim {head_dim}); use hash_family 'hadamard' or 'gaussian', or a shorter code"
        )
    return -(-num_hash // (dim // hash_code_len))


def rotation_layout(hash_family: str, *, head_dim: int, num_hash: int, hash_code_len: int) -> RotationLayout:
    """The layout of ``hadamard`` or ``hadamard_authors``; see ``RotationLayout``."""
    dim = padded_dim(head_dim)
    hashes = torch.arange(num_hash, dtype=torch.int32)[:, None]
    bits = torch.arange(hash_code_len, dtype=torch.int32)[None, :]
    if hash_family == "hadamard":
        block = hashes // dim * hash_code_len + bits
        coordinate = (hashes % dim).expand(num_hash, hash_code_len)
    else:
        per_block = max(dim // hash_code_len, 1)
        block = (hashes // per_block).expand(num_hash, hash_code_len)
        coordinate = hashes % per_block * hash_code_len + bits
    blocks = num_blocks(hash_family, head_dim=head_dim, num_hash=num_hash, hash_code_len=hash_code_len)
    rounds = SHARED_ROUNDS[hash_family], BLOCK_ROUNDS[hash_family]
    return RotationLayout(blocks, dim, *rounds, block.contiguous(), coordinate.contiguous())


def planes_shape(
    hash_family: str, *, groups: int, head_dim: int, num_hash: int, hash_code_len: int
) -> tuple[int, int, int]:
    """The shape of the planes: Gaussian directions ``[groups, num_hash * hash_code_len, head_dim]``, or the signs of
    the rounds ``[groups, shared_rounds + blocks * block_rounds, padded_dim]``.
    """
    if hash_family == "gaussian":
        return (groups, num_hash * hash_code_len, head_dim)
    blocks = num_blocks(hash_family, head_dim=head_dim, num_hash=num_hash, hash_code_len=hash_code_len)
    return (groups, SHARED_ROUNDS[hash_family] + blocks * BLOCK_ROUNDS[hash_family], padded_dim(head_dim))


def draw_planes(
    hash_family: str,
    *,
    groups: int,
    head_dim: int,
    num_hash: int,
    hash_code_len: int,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw the random planes of a hash family, on the CPU whatever the device: the same seed gives the same bits.

    Args:
        hash_family: one of ``HASH_FAMILIES``.
        groups: how many independent sets; ``batch * heads`` for one a head and sequence, 1 for one shared set.
        head_dim: d, the size of the vectors.
        num_hash: m, the number of codes a vector gets.
        hash_code_len: tau, the bits of a code.
        generator: a CPU generator; None: torch's default one.
        device: where the planes are put.

    Returns:
        float32 ``[groups, num_hash * hash_code_len, head_dim]`` for ``gaussian``, else int8 signs
        ``[groups, rounds, padded_dim]``.

    Raises:
        ValueError: an unknown family, or sizes that it cannot serve.
    """
    check_family(hash_family)
    shape = planes_shape(hash_family, groups=groups, head_dim=head_dim, num_hash=num_hash, hash_code_len=hash_code_len)
    # torch.compile with dynamic shapes knows the calls without a generator only.
    source: dict[str, Any] = {} if generator is None else {"generator": generator}
    if hash_family == "gaussian":
        return _sent(torch.randn(shape, device="cpu", **source), device)
    # 32 signs of one number, eight at a time from a table: made here, so that the device has one copy to do.
    count = math.prod(shape)
    drawn = torch.randint(0, 1 << _SIGNS_OF_A_DRAW, (-(-count // _SIGNS_OF_A_DRAW),), device="cpu", **source)
    octets = drawn[:, None] >> torch.arange(0, _SIGNS_OF_A_DRAW, 8, device="cpu") & 0xFF
    signs = _SIGNS_OF_OCTET.index_select(0, octets.flatten()).flatten()[:count]
    return _sent(
        signs.clone().view(shape), device
    )  # no view of the table's rows, whose 8 torch.compile takes for a length


def _sent(drawn: Tensor, device: torch.device | str) -> Tensor:
    """``drawn`` on ``device``. From memory that is not pinned, a copy to a GPU makes the host wait for its work."""
    if (
        torch.device(device).type != "cuda"
        or drawn.device.type != "cpu"
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        # A graph would copy, at each replay, what another draw has written there since; torch refuses the plain copy.
        or torch.cuda.is_current_stream_capturing()
    ):
        return drawn.to(device)
    return drawn.pin_memory().to(device, non_blocking=True)


def check_family(hash_family: str) -> None:
    """Raise ValueError for a family that does not exist."""
    if hash_family not in HASH_FAMILIES:
        raise ValueError(f"hash_family must be one of {HASH_FAMILIES}, got {hash_family!r}")
