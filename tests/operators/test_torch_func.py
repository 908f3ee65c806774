"""torch.func on the operators and the attentions: vmap, grad, vjp, per-sample gradients and refused derivatives."""

import pytest
import torch
from attention_arguments import ATTENTIONS, SIZES, make_attention, make_qkv
from torch.func import grad, jvp, vjp, vmap
from torch.testing import assert_close

from yoso.attention import yoso_sampling
from yoso.ops.estimators import draw_shared_keys
from yoso.ops.hashing import draw_planes
from yoso.ops.schemas import SCHEMAS

OPS = torch.ops.yoso
MAPPED = 3


def operator_cases():
    """The arguments of each operator, with a mapped dimension first in every tensor: ``[MAPPED, B, ...]``."""
    query, key, value = make_qkv(MAPPED, 2, 2, 11, 16)
    weight = value.flip(3)
    mask = torch.rand(MAPPED, 2, 11, generator=torch.Generator().manual_seed(2)) > 0.2
    planes = torch.stack([draw_planes("hadamard", groups=2, head_dim=16, **SIZES) for _ in range(MAPPED)])
    hashing = (6, 4, "hadamard")
    codes = [torch.stack([OPS.fast_hash(x[i], planes[i], *hashing) for i in range(MAPPED)]) for x in (query, key)]
    ids = torch.stack([draw_shared_keys(3, (2, 2, 11)) for _ in range(MAPPED)])
    return {
        "fast_hash": (query, planes, *hashing),
        "lsh_cumulation": (*codes, value, mask, mask, 4),
        "lsh_attention": (query, key, value, *codes, mask, None, 4, True),
        "lsh_attention_backward": (weight, query, key, value, *codes, mask, mask, 4),
        "rescored_attention": (query, key, value, *codes, ids, mask, None, 4, 40, 0.2, True, True),
        "rescored_attention_backward": (weight, query, key, value, *codes, ids, mask, mask, 4, 40, 0.2, True),
        "expectation": (query, key, value, mask, None, 4),
        "expectation_backward": (weight, query, key, value, mask, mask, 4, True),
        "unit_rows": (query,),
        "unit_rows_backward": (weight, query),
        "floored_unit_rows": (query, query[:, :, :, 0, 0].exp()),
        "floored_unit_rows_backward": (weight, query, query[:, :, :, 0, 0].exp()),
    }


CASES = operator_cases()


def is_tensor(x):
    return isinstance(x, torch.Tensor)


def assert_equals_a_loop(name, args, dims):
    op = getattr(OPS, name)
    actual = vmap(op, in_dims=dims)(*args)
    rows = [
        op(*(x if dim is None else x.select(dim, i) for x, dim in zip(args, dims, strict=True))) for i in range(MAPPED)
    ]
    for a, e in zip(
        (actual,) if is_tensor(actual) else actual,
        zip(*((row,) if is_tensor(row) else row for row in rows), strict=True),
        strict=True,
    ):
        assert_close(a, torch.stack(e))


def test_every_operator_has_a_case():
    assert set(CASES) == set(SCHEMAS) - {"unit_rows_"}  # it is called only where no transform is active


@pytest.mark.parametrize("name", CASES)
def test_vmap_equals_a_loop(name):
    args = CASES[name]
    assert_equals_a_loop(name, args, tuple(0 if is_tensor(x) else None for x in args))


@pytest.mark.parametrize("name", CASES)
def test_vmap_over_an_inner_dimension(name):
    args = tuple(x.movedim(0, 2) if is_tensor(x) else x for x in CASES[name])
    assert_equals_a_loop(name, args, tuple(2 if is_tensor(x) else None for x in args))


@pytest.mark.parametrize("name", CASES)
def test_vmap_over_one_argument_with_the_others_shared(name):
    tensors = [i for i, x in enumerate(CASES[name]) if is_tensor(x)]
    for mapped in tensors:
        args = tuple(x[0] if is_tensor(x) and i != mapped else x for i, x in enumerate(CASES[name]))
        assert_equals_a_loop(name, args, tuple(0 if i == mapped else None for i in range(len(args))))


@pytest.mark.parametrize("name", CASES)
def test_nested_vmap(name):
    args = CASES[name]
    tensors = tuple(i for i, x in enumerate(args) if is_tensor(x))
    doubled = tuple(torch.stack([x, x.flip(0)]) if is_tensor(x) else x for x in args)
    dims = tuple(0 if i in tensors else None for i in range(len(args)))
    once = vmap(getattr(OPS, name), in_dims=dims)
    actual = vmap(once, in_dims=dims)(*doubled)
    expected = once(*args), once(*(x.flip(0) if is_tensor(x) else x for x in args))
    for a, *e in zip(*((x,) if is_tensor(x) else x for x in (actual, *expected)), strict=True):
        assert_close(a, torch.stack(e))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_vmap_of_an_attention_with_and_without_a_mask(name):
    attention = make_attention(name)
    qkv = make_qkv(MAPPED, 2, 2, 11, 16)
    mask = torch.arange(11) < torch.tensor([[11], [6]])
    for rest in ((), (mask,)):
        actual = vmap(attention, in_dims=(0, 0, 0) + (None,) * len(rest))(*qkv, *rest)
        assert_close(actual, torch.stack([attention(*(x[i] for x in qkv), *rest) for i in range(MAPPED)]))


def test_planes_drawn_under_vmap_follow_its_randomness_argument():
    query, key, value = make_qkv(1, 2, 9, 16)
    mapped = [torch.stack([x, x]) for x in (query, key, value)]

    def attention(query, key, value):
        return yoso_sampling(query, key, value, num_hash=2, hash_code_len=6)

    with pytest.raises(RuntimeError, match="randomness"):
        vmap(attention)(*mapped)
    first, second = vmap(attention, randomness="same")(*mapped)
    assert torch.equal(first, second)
    first, second = vmap(attention, randomness="different")(*mapped)
    assert not torch.equal(first, second)


def losses(name, *, groups):
    attention, weight = make_attention(name, groups=groups), make_qkv(1, 2, 11, 16)[2]

    def loss(query, key, value):
        return (attention(query, key, value) * weight).sum()

    return attention, loss


@pytest.mark.parametrize("name", ATTENTIONS)
def test_grad_and_vjp_equal_backward(name):
    attention, loss = losses(name, groups=4)
    qkv = make_qkv(2, 2, 11, 16)
    inputs = [x.clone().requires_grad_() for x in qkv]
    expected = torch.autograd.grad(loss(*inputs), inputs)
    out, pull = vjp(attention, *qkv)
    weight = make_qkv(1, 2, 11, 16)[2].expand_as(out)
    for actual in (grad(loss, argnums=(0, 1, 2))(*qkv), pull(weight)):
        assert_close(list(actual), list(expected))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_per_sample_gradients(name):
    """vmap(grad) returns one gradient per sample; grad(vmap) and backward through vmap return the same ones."""
    _, loss = losses(name, groups=2)
    qkv = make_qkv(MAPPED, 1, 2, 11, 16)
    every = (0, 1, 2)
    rows = [grad(loss, argnums=every)(*(x[i] for x in qkv)) for i in range(MAPPED)]
    expected = [torch.stack(row) for row in zip(*rows, strict=True)]
    inputs = [x.clone().requires_grad_() for x in qkv]
    for actual in (
        vmap(grad(loss, argnums=every))(*qkv),
        grad(lambda *x: vmap(loss)(*x).sum(), argnums=every)(*qkv),
        torch.autograd.grad(vmap(loss)(*inputs).sum(), inputs),
    ):
        assert_close(list(actual), list(expected))
    shared = vmap(grad(loss, argnums=every), in_dims=(0, None, None))(qkv[0], qkv[1][0], qkv[2][0])
    assert_close(shared[0][0], expected[0][0])
    assert shared[1].shape == (MAPPED, 1, 2, 11, 16)


# The first jvp of a process uses TorchScript, which torch has deprecated.
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ATTENTIONS)
def test_second_and_forward_mode_derivatives_raise_an_error_that_says_why(name):
    attention, loss = losses(name, groups=4)
    query, key, value = make_qkv(2, 2, 11, 16)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        grad(lambda q: grad(loss)(q, key, value).sum())(query)
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        jvp(grad(loss, argnums=2), (query, key, value), (query, key, value))
    with pytest.raises(NotImplementedError, match="no forward-mode derivative"):
        jvp(lambda q: attention(q, key, value), (query,), (query,))
    with (
        pytest.raises(NotImplementedError, match="no forward-mode derivative"),
        torch.no_grad(),
        torch.autograd.forward_ad.dual_level(),
    ):
        attention(query, key, torch.autograd.forward_ad.make_dual(value, value))
