"""The native operators compared with plain torch on random shapes, strides, masks and dtypes; very large inputs."""

import resource

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from yoso.build import jit
from yoso.ops import operators, portable
from yoso.ops.hashing import HASH_FAMILIES, draw_planes

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Relative to the largest entry. Both implementations sum in float32 or float64, so in half precision only the final
# rounding differs.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 1e-2, torch.float16: 2e-3}
native = torch.ops.yoso

SIZES = st.one_of(st.sampled_from([1, 15, 16, 17, 64, 128, 255, 256]), st.integers(1, 256))
# 129 and 513: one more than the tile sizes of the expectation.
LENGTHS = st.one_of(st.integers(1, 20), st.integers(1, 40), st.integers(1, 70), st.sampled_from([129, 513]))


@pytest.fixture(autouse=True, scope="module")
def _native_kernels_are_tested():
    assert jit.load("cpu"), "the native kernels could not be built; these tests need them"


def contiguous(x):
    return x.contiguous()


def transposed(x):
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def columns_first(x):
    return x.transpose(2, 3).contiguous().transpose(2, 3)


def every_second(x):
    """Stride 2 in every dimension, with NaN in between: a kernel that reads a wrong element returns NaN."""
    wide = torch.full([2 * size for size in x.shape], float("nan") if x.is_floating_point() else 1).to(x.dtype)
    view = wide[::2, ::2, ::2, ::2]
    return view.copy_(x)


def unaligned(x):
    flat = torch.empty(x.numel() + 1, dtype=x.dtype)
    return flat[1:].view(x.shape).copy_(x)


def one_head_for_all(x):
    return x[:, :1].expand(x.shape)


def one_row_for_all(x):
    return x[:, :, :1].expand(x.shape)


LAYOUTS = [contiguous, transposed, columns_first, every_second, unaligned, one_head_for_all, one_row_for_all]


def assert_close(actual, expected, tolerance):
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    assert torch.isfinite(actual).all()
    if expected.numel():
        scale = max(1.0, expected.double().abs().max().item())
        assert (actual.double() - expected.double()).abs().max().item() <= tolerance * scale


def assert_same(name, args, tolerance):
    """The native operator gives what plain torch gives."""
    actual, expected = getattr(native, name)(*args), getattr(portable, name)(*args)
    pairs = zip(actual, expected, strict=True) if isinstance(actual, tuple) else [(actual, expected)]
    for a, e in pairs:
        assert_close(a, e, tolerance)


@st.composite
def inputs(draw):
    """Query and key with rows of length 1, value, upstream gradient, codes, masks and tau."""
    batch, heads = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    num_query, num_key, dim, value_dim = draw(LENGTHS), draw(LENGTHS), draw(SIZES), draw(SIZES)
    tau = draw(st.integers(1, 16))
    # Plain torch fills a table of 2^tau rows per hash, so either the hashes are many or the tables are large, not both.
    num_hash = draw(st.integers(1, 20 if tau <= 10 else 3))
    if tau <= 6 and draw(st.integers(0, 9)) == 0:
        num_hash, num_query, num_key = draw(st.sampled_from([257, 1024])), min(num_query, 20), min(num_key, 20)
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    query, key = (
        normalize(torch.randn(batch, heads, n, dim, generator=generator, dtype=torch.float64), dim=-1).to(dtype)
        for n in (num_query, num_key)
    )
    value, grad = (
        torch.randn(batch, heads, n, value_dim, generator=generator, dtype=torch.float64).to(dtype)
        for n in (num_key, num_query)
    )
    query, key, value, grad = (draw(st.sampled_from(LAYOUTS))(x) for x in (query, key, value, grad))
    # Few distinct codes give buckets with many keys, many distinct codes give buckets with few.
    top = min(draw(st.sampled_from([1, 2, 5, 2**16])), 2**tau)
    codes = [
        draw(st.sampled_from([contiguous, transposed, one_head_for_all]))(
            torch.randint(0, top, (batch, heads, num_hash, n), generator=generator).to(torch.uint16)
        )
        for n in (num_query, num_key)
    ]
    masks = []
    for n in (num_query, num_key):
        masked = draw(st.sampled_from([None, 0.0, 0.5, 1.1]))  # 1.1 masks every row
        mask = None if masked is None else torch.rand(n, batch, generator=generator).t() > masked
        masks.append(mask)
    return query, key, value, grad, codes, masks, tau


@given(inputs())
@settings(max_examples=40, deadline=None)
def test_native_operators_equal_plain_torch(drawn):
    query, key, value, grad, codes, masks, tau = drawn
    tolerance = TOLERANCE[value.dtype]
    assert_same("lsh_cumulation", (*codes, value, *masks, tau), tolerance)
    assert_same("lsh_attention_backward", (grad, query, key, value, *codes, *masks, tau), tolerance)
    # Near 1 the slope of arccos amplifies rounding errors of the cosine, and both implementations sum it differently.
    assert_same("expectation", (query, key, value, *masks, tau), 10 * tolerance)
    assert_same("expectation_backward", (grad, query, key, value, *masks, tau), 10 * tolerance)
    assert_same("unit_rows", (value,), tolerance)
    assert_same("unit_rows_backward", (grad, 3 * grad.flip(2)), tolerance)
    floor = value[:, :, 0, 0].to(torch.float64 if value.dtype == torch.float64 else torch.float32)
    assert_same("floored_unit_rows", (value, floor), tolerance)
    assert_same("floored_unit_rows_backward", (grad, 3 * grad.flip(2), floor), tolerance)


@given(
    layout=st.sampled_from(LAYOUTS),
    family=st.sampled_from(HASH_FAMILIES),
    shape=st.tuples(st.integers(1, 2), st.integers(1, 3), LENGTHS, SIZES),
    num_hash=st.one_of(st.integers(1, 12), st.integers(1, 40), st.sampled_from([300, 1024])),
    tau=st.integers(1, 16),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=40, deadline=None)
def test_native_codes_equal_plain_torch_bit_for_bit(layout, family, shape, num_hash, tau, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    _, heads, length, dim = shape
    if num_hash > 40:
        length = min(length, 17)
    if family == "hadamard_authors" and tau > dim:
        tau = dim  # a code cannot be longer than the rotation
    # Small integers: every sum is exact, so no sign of a projection depends on rounding.
    x = layout(torch.randint(-8, 9, shape, generator=generator).to(dtype)[:, :, :length])
    planes = draw_planes(family, groups=heads, head_dim=dim, num_hash=num_hash, hash_code_len=tau, generator=generator)
    if family == "gaussian":
        planes = (planes * 4).round()
    args = (x, planes, num_hash, tau, family)
    assert torch.equal(native.fast_hash(*args), portable.fast_hash(*args))


def test_a_million_rows_in_one_call():
    """Some rows are compared with the values that collide with them; the process grows by less than 2 GiB."""
    torch.manual_seed(0)
    length, dim, sizes = 1 << 20, 16, {"num_hash": 2, "hash_code_len": 16}
    query, key, value = (torch.randn(1, 1, length, dim) for _ in range(3))
    planes = draw_planes("gaussian", groups=1, head_dim=dim, **sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    query_codes, key_codes = (
        operators.fast_hash(x, planes, hash_family="gaussian", **sizes)[0, 0] for x in (query, key)
    )
    out = operators.lsh_cumulation(query_codes[None, None], key_codes[None, None], value, hash_code_len=16)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 2 * 1024**3
    wide = value[0, 0].double()
    for row in [0, 1, 4095, 4096, length // 2, length - 2, length - 1]:
        expected = (
            sum(wide[(key_codes[h] == query_codes[h, row]).nonzero().flatten()].sum(0) for h in range(2))
            / sizes["num_hash"]
        )
        assert_close(out[0, 0, row].double(), expected, 1e-5)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [((2, 2, 3, 16), (2**31 + 64, 2**30 + 32, 16, 1)), ((1, 1, 3, 16), (0, 0, 2**30 + 48, 1))],
    ids=["batches and heads", "rows"],
)
def test_offsets_beyond_2_to_the_31_elements(tmp_path, shape, strides):
    """The memory is a sparse file, of which only the pages of the few rows exist."""
    last = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    assert last > 2**31
    far_apart = torch.from_file(str(tmp_path / "sparse"), shared=True, size=last + 1).as_strided(shape, strides)
    torch.manual_seed(0)
    contiguous = normalize(torch.randn(shape), dim=-1)
    far_apart.copy_(contiguous)
    planes = draw_planes("hadamard", groups=1, head_dim=16, num_hash=4, hash_code_len=2)
    codes = native.fast_hash(contiguous, planes, 4, 2, "hadamard")
    calls = {
        "fast_hash": lambda x: (x, planes, 4, 2, "hadamard"),
        "lsh_cumulation": lambda x: (codes, codes, x, None, None, 2),
        "lsh_attention_backward": lambda x: (x, x, x, x, codes, codes, None, None, 2),
        "expectation": lambda x: (x, x, x, None, None, 2),
        "expectation_backward": lambda x: (x, x, x, x, None, None, 2),
        "unit_rows": lambda x: (x,),
        "unit_rows_backward": lambda x: (x, x),
        "floored_unit_rows": lambda x: (x, torch.ones(x.shape[:2])),
        "floored_unit_rows_backward": lambda x: (x, x, torch.ones(x.shape[:2])),
    }
    for name, arguments in calls.items():
        actual, expected = getattr(native, name)(*arguments(far_apart)), getattr(native, name)(*arguments(contiguous))
        pairs = zip(actual, expected, strict=True) if isinstance(actual, tuple) else [(actual, expected)]
        assert all(torch.equal(a, e) for a, e in pairs), name
