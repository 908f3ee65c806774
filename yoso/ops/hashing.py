"""Hash families: how a vector becomes ``num_hash`` codes of ``hash_code_len`` bits, and how their planes are drawn.

Each bit is the sign of a projection on a random direction. Two vectors at angle theta agree in all bits of a code with
probability (1 - theta / pi) ** hash_code_len if the directions of the code are independent.

- ``gaussian``: independent Gaussian directions; the probability is exact. O(n * num_hash * hash_code_len * d).
- ``hadamard``: bit t of hash h is coordinate h of H D_t (H D2 H D1 x), where H is the Hadamard matrix and every D is a
  diagonal of random signs. One shared rotation H D2 H D1 spreads x evenly; given that rotation, the directions of a
  code's bits are independent signs. O(n * hash_code_len * d log d) for num_hash <= d.
- ``hadamard_authors``: the kernel of the paper's authors (github.com/mlpen/YOSO): the bits of a code are neighbouring
  coordinates of one rotation H D3 H D2 H D1 x. Their directions are orthogonal and not independent, which lowers the
  collision probability of dissimilar vectors.

The costs are those on a CPU. On CUDA every family is a matrix product with its directions, on the tensor cores.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from yoso.torch_private import inside_functorch_transform, is_fake

_SIGNS_PER_DRAW = 32


def _make_signs_of_octet() -> Tensor:
    """The signs -1 and 1 of the bits of every number of 8 bits, int8 ``[256, 8]``."""
    bits = torch.arange(256, device="cpu")[:, None] >> torch.arange(8, device="cpu") & 1
    return (bits * 2 - 1).to(torch.int8)


_SIGNS_OF_OCTET = _make_signs_of_octet()
HASH_FAMILIES = ("gaussian", "hadamard", "hadamard_authors")
SHARED_ROUNDS = {"hadamard": 2, "hadamard_authors": 0}
"""Number of rounds H D that all blocks of a Hadamard family share."""
BLOCK_ROUNDS = {"hadamard": 1, "hadamard_authors": 3}
"""Number of further rounds H D in each block."""


@dataclass(frozen=True)
class RotationLayout:
    """Which rotation and coordinate each bit of a Hadamard family comes from.

    ``block[h, t]`` and ``coordinate[h, t]`` (int32 ``[num_hash, hash_code_len]``) are the rotation and its output
    coordinate for bit t of hash h; ``blocks`` is the number of rotations and ``padded_dim`` their size, a power of two.
    The first ``shared_rounds`` rows of the planes are the signs of the shared rounds; ``block_rounds`` rows per block
    follow.
    """

    blocks: int
    padded_dim: int
    shared_rounds: int
    block_rounds: int
    block: Tensor
    coordinate: Tensor


def default_hash_code_len(seq_len: int) -> int:
    """log2 of the length, 1 to 16: about one key per bucket, as the authors set it for long sequences."""
    return min(max((seq_len - 1).bit_length(), 1), 16)


def padded_dim(head_dim: int) -> int:
    """The smallest power of two that is at least ``head_dim``: the size of a Hadamard rotation."""
    return 1 << (int(head_dim) - 1).bit_length()  # in torch.jit.trace sizes are tensors


def num_blocks(hash_family: str, *, head_dim: int, num_hash: int, hash_code_len: int) -> int:
    """How many rotations a Hadamard family needs.

    Raises:
        ValueError: in ``hadamard_authors``, a code with more bits than the rotation has coordinates.
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
    """The shape of the planes of a hash family.

    Returns:
        ``[groups, num_hash * hash_code_len, head_dim]`` for Gaussian directions, or
        ``[groups, shared_rounds + blocks * block_rounds, padded_dim]`` for the signs of a Hadamard family.
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
    """Draw the random planes of a hash family.

    They are always drawn on the CPU, so that the same seed gives the same bits on every device.

    Args:
        hash_family: one of ``HASH_FAMILIES``.
        groups: number of independent sets: ``batch * heads`` for one set per head and sequence, 1 for one shared set.
        head_dim: d, the size of the vectors.
        num_hash: m, the number of codes per vector.
        hash_code_len: tau, the bits of a code.
        generator: a CPU generator; None: torch's default CPU generator.
        device: the device that the planes are moved to.

    Returns:
        float32 ``[groups, num_hash * hash_code_len, head_dim]`` for ``gaussian``, else int8 signs
        ``[groups, rounds, padded_dim]``.

    Raises:
        ValueError: an unknown family, or a code that is too long for ``hadamard_authors``.
    """
    check_family(hash_family)
    shape = planes_shape(hash_family, groups=groups, head_dim=head_dim, num_hash=num_hash, hash_code_len=hash_code_len)
    # With dynamic shapes, torch.compile can only trace the calls that have no generator argument.
    source: dict[str, Any] = {} if generator is None else {"generator": generator}
    if hash_family == "gaussian":
        return _to_device(torch.randn(shape, device="cpu", **source), device)
    # Each random number gives 32 signs, eight at a time from a table. The signs are made on the CPU, so that a GPU has
    # a single copy to do.
    count = math.prod(shape)
    drawn = torch.randint(0, 1 << _SIGNS_PER_DRAW, (-(-count // _SIGNS_PER_DRAW),), device="cpu", **source)
    octets = drawn[:, None] >> torch.arange(0, _SIGNS_PER_DRAW, 8, device="cpu") & 0xFF
    # FakeTensorMode, which torch.export uses, refuses a real table: the operations that make it become part of the
    # exported program.
    table = _make_signs_of_octet() if is_fake(drawn) else _SIGNS_OF_OCTET
    signs = table.index_select(0, octets.flatten()).flatten()[:count]
    # A clone, because torch.compile would take the 8 columns of the table for a dynamic length in a view.
    return _to_device(signs.clone().view(shape), device)


def _to_device(planes: Tensor, device: torch.device | str) -> Tensor:
    """Move planes to a device; to a GPU from pinned memory, so that the host need not wait for the GPU's queue."""
    if (
        torch.device(device).type != "cuda"
        or planes.device.type != "cpu"
        or torch.compiler.is_compiling()
        or inside_functorch_transform()
        # A CUDA graph would copy from the same pinned memory at every replay, and a later draw may have overwritten it
        # by then. Torch refuses the plain copy during a capture.
        or torch.cuda.is_current_stream_capturing()
    ):
        return planes.to(device)
    return planes.pin_memory().to(device, non_blocking=True)


def check_family(hash_family: str) -> None:
    """Raise ``ValueError`` for an unknown hash family."""
    if hash_family not in HASH_FAMILIES:
        raise ValueError(f"hash_family must be one of {HASH_FAMILIES}, got {hash_family!r}")
