"""fast_hash's CUDA kernels, run on the host shim, compared with the definition of the codes."""

import pytest
import torch

from yoso.ops import operators, reference
from yoso.ops.hashing import HASH_FAMILIES, draw_planes

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# (batch, heads), length, head_dim, num_hash, hash_code_len, groups of planes: all sizes of rotations and of products,
# lengths around the rows of a warp and a CTA, more hashes than a rotation has coordinates, one hash, short and long
# codes.
SIZES = [
    ((2, 3), 1, 64, 32, 9, 6),
    ((2, 3), 7, 32, 5, 16, 3),
    ((1, 2), 33, 64, 100, 4, 2),
    ((2, 1), 33, 100, 33, 7, 1),
    ((2, 2), 65, 128, 32, 12, 2),
    ((1, 2), 34, 256, 40, 11, 1),
    ((2, 3), 130, 8, 19, 5, 3),
    ((2, 3), 129, 48, 1, 1, 6),
    ((2, 3), 24, 3, 2, 2, 6),
    ((2, 3), 9, 1, 3, 1, 1),
    ((2, 1), 5, 2, 5, 2, 2),
]


def draw(hash_family, heads, length, head_dim, num_hash, hash_code_len, groups, dtype=torch.float32):
    """Vectors, planes and the operator's other arguments, by name."""
    torch.manual_seed(0)
    args = {"num_hash": num_hash, "hash_code_len": hash_code_len, "hash_family": hash_family}
    planes = draw_planes(hash_family, groups=groups, head_dim=head_dim, num_hash=num_hash, hash_code_len=hash_code_len)
    return torch.randn(*heads, length, head_dim).to(dtype), planes, args


def check(codes, x, planes, args):
    assert codes.dtype == torch.uint16
    assert codes.shape == (*x.shape[:2], args["num_hash"], x.shape[2])
    assert torch.equal(codes.long(), reference.settle_codes(codes, x, planes, **args))


def fits(hash_family, head_dim, hash_code_len):
    return hash_family != "hadamard_authors" or hash_code_len <= head_dim


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_codes_equal_the_definition(shim, hash_family, sizes):
    if not fits(hash_family, sizes[2], sizes[4]):
        pytest.skip("hadamard_authors needs hash_code_len <= head_dim")
    for dtype in DTYPES.values():
        x, planes, args = draw(hash_family, *sizes, dtype=dtype)
        check(shim.fast_hash(x, planes, *args.values()), x, planes, args)


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_a_long_sequence(shim, hash_family):
    x, planes, args = draw(hash_family, (1, 1), 1000, 64, 32, 10, 1)
    check(shim.fast_hash(x, planes, *args.values()), x, planes, args)


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_every_code_length(shim, hash_family):
    for hash_code_len in range(1, 17):
        x, planes, args = draw(hash_family, (1, 1), 35, 32, 11, hash_code_len, 1)
        check(shim.fast_hash(x, planes, *args.values()), x, planes, args)


@pytest.mark.parametrize("head_dim", [8, 24, 64, 100, 256])
@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_integer_vectors_give_the_same_codes_as_the_cpu_operator(shim, hash_family, head_dim):
    """Sums of small integers are exact, so projections of exactly 0 agree too; -0 counts as 0."""
    x, planes, args = draw(hash_family, (2, 1), 40, head_dim, 35, 6, 2)
    if hash_family == "gaussian":
        planes = (planes * 4).round()
    for dtype in DTYPES.values():
        integers = (x * 2).round().to(dtype)
        integers[:, :, 3] = 0
        integers[:, :, 4] = -0.0
        codes = shim.fast_hash(integers, planes, *args.values())
        assert torch.equal(codes, operators.fast_hash(integers.float(), planes, **args))
        assert not codes[:, :, :, 3:5].any()


@pytest.mark.parametrize("head_dim", [16, 64, 256])
@pytest.mark.parametrize("hash_family", HASH_FAMILIES[1:])
def test_the_largest_possible_directions(shim, hash_family, head_dim):
    """Signs from a bent function, whose transform is flat: directions become head_dim^1.5 times a unit vector."""
    x, planes, args = draw(hash_family, (1, 1), 40, head_dim, 35, 6, 1)
    half = head_dim.bit_length() // 2
    bent = torch.tensor([1 - 2 * (((i >> half) & i).bit_count() % 2) for i in range(head_dim)], dtype=torch.int8)
    planes = bent.expand_as(planes).contiguous()
    for dtype in DTYPES.values():
        integers = (x * 2).round().to(dtype)
        integers[:, :, 3] = 0
        codes = shim.fast_hash(integers, planes, *args.values())
        assert torch.equal(codes, operators.fast_hash(integers.float(), planes, **args))


@pytest.mark.parametrize("shim", [2], ids=["random"], indirect=True)
def test_more_groups_of_planes_than_fit_the_workspace(shim):
    """With the most hashes and bits, the 17th group needs a second launch with the workspace of 32 MiB."""
    x, planes, args = draw("gaussian", (2, 17), 1, 8, 1024, 16, 17, dtype=torch.bfloat16)
    check(shim.fast_hash(x, planes, *args.values()), x, planes, args)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_any_strides_and_alignment(shim, hash_family, dtype):
    x, planes, args = draw(hash_family, (2, 3), 37, 64, 16, 8, 6, dtype=dtype)
    expected = shim.fast_hash(x, planes, *args.values())
    batch, heads, length, dim = x.shape
    transposed = x.transpose(1, 2).contiguous().transpose(1, 2)
    off_by_one = torch.empty(x.numel() + 1, dtype=dtype)[1:].view(x.shape).copy_(x)
    wide_rows = torch.full((batch, heads, length, dim + 3), torch.nan, dtype=dtype)[..., :dim].copy_(x)
    spread = torch.empty(batch, heads, length, 2 * dim, dtype=dtype)[..., ::2].copy_(x)
    for other in (transposed, off_by_one, wide_rows, spread):
        assert torch.equal(shim.fast_hash(other, planes, *args.values()), expected)
    equal_planes = draw(hash_family, (2, 3), 37, 64, 16, 8, 1)[1].expand(6, -1, -1)
    shared = shim.fast_hash(x, equal_planes[:1], *args.values())
    assert torch.equal(shim.fast_hash(x, equal_planes, *args.values()), shared)


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_codes_do_not_depend_on_the_lengths_of_vectors_and_planes(shim, hash_family):
    x, planes, args = draw(hash_family, (2, 3), 40, 64, 16, 8, 6)
    expected = shim.fast_hash(x, planes, *args.values())
    scale = 2.0 ** torch.linspace(-100, 100, 40).round()[:, None]
    assert torch.equal(shim.fast_hash(x * scale, planes, *args.values()), expected)
    if hash_family == "gaussian":
        lengths = 2.0 ** torch.linspace(-100, 100, planes.shape[1]).round()[:, None]
        assert torch.equal(shim.fast_hash(x, planes * lengths, *args.values()), expected)


@pytest.mark.parametrize(("dtype", "unit"), [(torch.float32, 2.0**-149), (torch.bfloat16, 2.0**-133)], ids=str)
@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_subnormal_vectors(shim, hash_family, dtype, unit):
    x, planes, args = draw(hash_family, (1, 2), 20, 64, 8, 5, 2)
    integers = (x * 2).round().double()
    tiny = (integers * unit).to(dtype)
    assert torch.equal(tiny.double(), integers * unit)
    check(shim.fast_hash(tiny, planes, *args.values()), tiny, planes, args)


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_entries_of_very_different_size(shim, hash_family):
    """Entries that would be lost if a vector were represented with fewer bits."""
    for dtype in (torch.float32, torch.bfloat16):
        x, planes, args = draw(hash_family, (2, 3), 64, 64, 16, 8, 6)
        x = (x * 2.0 ** torch.linspace(0, -24, 64)).to(dtype)
        check(shim.fast_hash(x, planes, *args.values()), x, planes, args)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
def test_a_row_of_nan_has_code_0_and_affects_no_other_row(shim, hash_family, dtype):
    x, planes, args = draw(hash_family, (2, 3), 40, 64, 16, 8, 6, dtype=dtype)
    expected = shim.fast_hash(x, planes, *args.values())
    x[:, :, 5] = torch.nan
    x[:, :, 7] = torch.inf
    codes = shim.fast_hash(x, planes, *args.values())
    assert not codes[:, :, :, 5].any()
    others = [i for i in range(40) if i not in (5, 7)]
    assert torch.equal(codes[..., others].long(), expected[..., others].long())


@pytest.mark.parametrize("hash_family", HASH_FAMILIES)
@pytest.mark.parametrize("shape", [(0, 3, 5, 16), (2, 0, 5, 16), (2, 3, 0, 16)])
def test_empty_inputs(shim, hash_family, shape):
    planes = draw_planes(hash_family, groups=1, head_dim=16, num_hash=4, hash_code_len=3)
    codes = shim.fast_hash(torch.zeros(shape), planes, 4, 3, hash_family)
    assert codes.shape == (*shape[:2], 4, shape[2])


def test_invalid_arguments_are_refused(shim):
    x, planes, args = draw("hadamard", (2, 3), 5, 16, 4, 3, 1)
    family = args["hash_family"]
    cases = [
        ((x.double(), planes, 4, 3, family), "float64 runs on the CPU"),
        ((torch.zeros(1, 1, 2, 300), planes, 4, 3, family), "head_dim must be 1 to 256"),
        ((x, planes, 4, 17, family), "hash_code_len must be 1 to 16"),
        ((x, planes, 0, 3, family), "num_hash must be 1 to 1024"),
        ((x, planes, 1025, 3, family), "num_hash must be 1 to 1024"),
        ((x, planes, 17, 3, family), "too few rounds"),
        ((x, planes[..., :12], 4, 3, family), "planes must be int8"),
        ((x, planes[..., :8], 4, 3, family), "planes must be int8"),
        ((x, planes.float(), 4, 3, family), "planes must be int8"),
        ((x, planes.expand(4, -1, -1), 4, 3, family), "planes do not fit x: they must be"),
        ((x, planes, 4, 3, "gaussian"), "planes must be float32"),
        ((x, planes, 4, 3, "spherical"), "unknown hash_family"),
        ((x[..., :4], planes[..., :4], 1, 5, "hadamard_authors"), "exceeds the rotation"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            shim.fast_hash(*arguments)
