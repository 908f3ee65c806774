"""Hash codes compared with their definition, and collision rates with the collision probability."""

import math

import pytest
import torch

from yoso.ops import hashing, operators, portable, reference
from yoso.ops.hashing import HASH_FAMILIES, draw_planes, rotation_layout

SHAPES = [(1, 1), (5, 3), (32, 9), (64, 12), (70, 16)]


def exact_vectors(*shape: int) -> torch.Tensor:
    """Small integers: every sum in a transform is exact in float32, so codes can be compared bit for bit."""
    return torch.randint(-8, 9, shape).float()


def integer_planes(hash_family: str, **sizes: int) -> torch.Tensor:
    planes = draw_planes(hash_family, **sizes)
    return (planes * 4).round() if hash_family == "gaussian" else planes


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
@pytest.mark.parametrize(("num_hash", "hash_code_len"), SHAPES)
@pytest.mark.parametrize("head_dim", [16, 24, 100])
@pytest.mark.parametrize("kernel", [operators.fast_hash, portable.fast_hash], ids=["native", "portable"])
def test_codes_equal_the_definition_bit_for_bit(kernel, hash_family, num_hash, hash_code_len, head_dim):
    torch.manual_seed(0)
    sizes = {"num_hash": num_hash, "hash_code_len": hash_code_len}
    x = exact_vectors(2, 3, 33, head_dim)
    planes = integer_planes(hash_family, groups=6, head_dim=head_dim, **sizes)
    expected = reference.fast_hash(x, planes, hash_family=hash_family, **sizes)
    codes = kernel(x, planes, hash_family=hash_family, **sizes)
    assert codes.dtype == torch.uint16
    assert torch.equal(codes.long(), expected)


@pytest.mark.parametrize("length", [1, 7, 15, 16, 17, 255, 256, 257])
def test_every_vector_is_hashed_at_any_length(length):
    torch.manual_seed(0)
    x = exact_vectors(1, 2, length, 64)
    planes = draw_planes("hadamard", groups=2, head_dim=64, num_hash=32, hash_code_len=9)
    args = {"num_hash": 32, "hash_code_len": 9, "hash_family": "hadamard"}
    assert torch.equal(operators.fast_hash(x, planes, **args).long(), reference.fast_hash(x, planes, **args))


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_heads_share_the_planes_of_their_group(groups):
    torch.manual_seed(0)
    x = exact_vectors(2, 3, 20, 32)
    planes = draw_planes("hadamard", groups=groups, head_dim=32, num_hash=8, hash_code_len=5)
    args = {"num_hash": 8, "hash_code_len": 5, "hash_family": "hadamard"}
    expected = torch.stack(
        [operators.fast_hash(x.flatten(0, 1)[g, None, None], planes[g % groups, None], **args)[0, 0] for g in range(6)]
    ).reshape(2, 3, 8, 20)
    assert torch.equal(operators.fast_hash(x, planes, **args), expected)


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_query_and_key_get_their_own_codes(hash_family):
    """The function ``hashing`` of transformers returns the key's codes for both."""
    torch.manual_seed(0)
    planes = draw_planes(hash_family, groups=1, head_dim=32, num_hash=16, hash_code_len=8)
    codes = [
        operators.fast_hash(torch.randn(1, 1, 50, 32), planes, num_hash=16, hash_code_len=8, hash_family=hash_family)
        for _ in range(2)
    ]
    assert not torch.equal(codes[0], codes[1])


def test_codes_depend_neither_on_the_length_of_a_vector_nor_on_strides():
    torch.manual_seed(0)
    planes = draw_planes("hadamard", groups=4, head_dim=64, num_hash=32, hash_code_len=9)
    args = {"num_hash": 32, "hash_code_len": 9, "hash_family": "hadamard"}
    base = exact_vectors(2, 40, 2, 64)
    x = base.transpose(1, 2)
    expected = operators.fast_hash(x.contiguous(), planes, **args)
    assert torch.equal(operators.fast_hash(x, planes, **args), expected)
    assert torch.equal(operators.fast_hash(4 * x, planes, **args), expected)
    wide = torch.zeros(2, 2, 40, 128)
    wide[..., ::2] = x
    assert torch.equal(operators.fast_hash(wide[..., ::2], planes, **args), expected)


def test_the_same_seed_gives_the_same_planes_and_the_default_generator_advances():
    sizes = {"groups": 2, "head_dim": 32, "num_hash": 8, "hash_code_len": 4}
    for family in HASH_FAMILIES:
        drawn = [draw_planes(family, generator=torch.Generator().manual_seed(3), **sizes) for _ in range(2)]
        assert torch.equal(*drawn)
        assert not torch.equal(draw_planes(family, **sizes), draw_planes(family, **sizes))


def collision_rate(
    hash_family: str, cosine: float, *, head_dim: int, hash_code_len: int, draws: int
) -> tuple[float, float]:
    """Mean and standard error, over independent planes, of the fraction of hashes in which a pair collides."""
    generator = torch.Generator().manual_seed(11)
    sizes = {"num_hash": 16, "hash_code_len": hash_code_len}
    planes = draw_planes(hash_family, groups=draws, head_dim=head_dim, generator=generator, **sizes)
    x, y = torch.randn(2, draws, head_dim, generator=generator)
    x = x / x.norm(dim=-1, keepdim=True)
    y = y - (x * y).sum(-1, keepdim=True) * x
    y = cosine * x + math.sqrt(1 - cosine**2) * y / y.norm(dim=-1, keepdim=True)
    pair = torch.stack([x, y], 1)[None]
    codes = operators.fast_hash(pair, planes, hash_family=hash_family, **sizes)[0].int()
    rates = (codes[:, :, 0] == codes[:, :, 1]).double().mean(1)
    return rates.mean().item(), rates.std().item() / math.sqrt(draws)


@pytest.mark.parametrize("cosine", [0.0, 0.5, 0.8, 0.95])
@pytest.mark.parametrize(("head_dim", "hash_code_len"), [(64, 9), (32, 12)])
@pytest.mark.parametrize("hash_family", ["gaussian", "hadamard"])
def test_the_collision_rate_is_unbiased(hash_family, cosine, head_dim, hash_code_len):
    rate, error = collision_rate(hash_family, cosine, head_dim=head_dim, hash_code_len=hash_code_len, draws=20000)
    expected = (1 - math.acos(cosine) / math.pi) ** hash_code_len
    assert abs(rate - expected) < 4 * error


@pytest.mark.parametrize(
    ("head_dim", "hash_code_len", "cosine", "at_least"), [(64, 9, 0.0, 0.05), (32, 12, 0.5, 0.25), (32, 12, 0.8, 0.09)]
)
def test_the_authors_hadamard_collides_too_rarely(head_dim, hash_code_len, cosine, at_least):
    """The directions of a code are orthogonal, so the bias does not shrink with more hashes."""
    rate, error = collision_rate(
        "hadamard_authors", cosine, head_dim=head_dim, hash_code_len=hash_code_len, draws=60000
    )
    expected = (1 - math.acos(cosine) / math.pi) ** hash_code_len
    assert rate + 4 * error < expected * (1 - at_least)


def test_rotation_layouts_use_each_coordinate_at_most_once():
    for family in ("hadamard", "hadamard_authors"):
        for num_hash, hash_code_len in SHAPES:
            layout = rotation_layout(family, head_dim=24, num_hash=num_hash, hash_code_len=hash_code_len)
            places = layout.block.long() * layout.padded_dim + layout.coordinate
            assert places.unique().numel() == num_hash * hash_code_len
            assert int(layout.block.max()) < layout.blocks


def test_the_authors_hadamard_refuses_a_code_longer_than_its_rotation():
    with pytest.raises(ValueError, match=r"hash_code_len.*head_dim 8"):
        draw_planes("hadamard_authors", groups=1, head_dim=8, num_hash=4, hash_code_len=9)


class RecordingTensor:
    """Replaces a CPU tensor; moving it to a device returns how it was moved."""

    device = torch.device("cpu")

    def __init__(self, pinned=False):
        self.pinned = pinned

    def pin_memory(self):
        return RecordingTensor(pinned=True)

    def to(self, device, non_blocking=False):
        return str(device), self.pinned, non_blocking


@pytest.mark.parametrize(("capturing", "expected"), [(False, ("cuda", True, True)), (True, ("cuda", False, False))])
def test_planes_are_copied_to_a_gpu_asynchronously_except_in_a_cuda_graph(monkeypatch, capturing, expected):
    """What is expected: the device, whether the memory is pinned, and whether the copy is asynchronous."""
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    assert hashing._to_device(RecordingTensor(), "cuda") == expected


def test_planes_for_the_cpu_are_not_pinned():
    assert hashing._to_device(RecordingTensor(), "cpu") == ("cpu", False, False)


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_planes_are_drawn_on_the_cpu_with_any_default_device_of_torch(hash_family):
    sizes = {"groups": 2, "head_dim": 32, "num_hash": 8, "hash_code_len": 5}
    expected = draw_planes(hash_family, generator=torch.Generator().manual_seed(3), **sizes)
    with torch.device("meta"):
        planes = draw_planes(hash_family, generator=torch.Generator("cpu").manual_seed(3), **sizes)
    assert torch.equal(planes, expected)
