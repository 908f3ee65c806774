"""The operators as torch expects them: opcheck, compile, double backward, memory."""

import pytest
import torch

from yoso.attention import yoso_e, yoso_sampling
from yoso.hashing import draw_planes


def sample_arguments(requires_grad=True):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 30, 16, requires_grad=requires_grad) for _ in range(3))
    mask = torch.rand(2, 30) > 0.2
    planes = draw_planes("hadamard", groups=4, head_dim=16, num_hash=6, hash_code_len=4)
    codes = [torch.ops.yoso.fast_hash(x.detach(), planes, 6, 4, "hadamard") for x in (query, key)]
    return query, key, value, mask, planes, codes


def test_opcheck_finds_nothing():
    query, key, value, mask, planes, codes = sample_arguments()
    grad = torch.randn(2, 2, 30, 16)
    plain = [x.detach() for x in (query, key, value)]
    ops = torch.ops.yoso
    cases = [
        (ops.fast_hash, (plain[0], planes, 6, 4, "hadamard")),
        (ops.lsh_cumulation, (*codes, value, mask, mask, 4)),
        (ops.lsh_attention, (query, key, value, *codes, mask, None, 4, True)),
        (ops.lsh_attention, (query, key, value, *codes, None, mask, 4, False)),
        (ops.lsh_attention_backward, (grad, *plain, *codes, mask, mask, 4)),
        (ops.unit_rows, (value,)),
        (ops.unit_rows_backward, (grad, value.detach())),
        (ops.expectation, (query, key, value, mask, mask, 4)),
        (ops.expectation_backward, (grad, *plain, mask, mask, 4)),
    ]
    for op, args in cases:
        torch.library.opcheck(op.default, args)


@pytest.mark.parametrize("attention", ["yoso_e", "yoso_sampling"])
def test_training_compiles_as_one_graph(attention):
    query, key, value, mask, planes, _ = sample_arguments()

    def loss(query, key, value):
        if attention == "yoso_e":
            return yoso_e(query, key, value, mask, hash_code_len=4).square().mean() + value.mean()
        out = yoso_sampling(query, key, value, mask, num_hash=6, hash_code_len=4, planes=planes)
        return (out * value).mean()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(query, key, value), (query, key, value))
    actual = torch.autograd.grad(compiled(query, key, value), (query, key, value))
    for a, e in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, e)


@pytest.mark.parametrize("attention", [yoso_e, yoso_sampling])
def test_double_backward_is_refused_in_words(attention):
    """transformers' functions return a wrong second derivative without a word."""
    query, key, value, mask, _, _ = sample_arguments()
    out = attention(query, key, value, mask)
    (first,) = torch.autograd.grad((out * value.detach()).sum(), query, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        first.sum().backward()


@pytest.mark.parametrize("attention", [yoso_e, yoso_sampling])
def test_memory_grows_linearly_with_the_length(attention):
    """A tensor of n x n would show: at n = 4096 it alone is 64 MiB; all temporaries together stay far below."""
    shape = (1, 1, 4096, 16)
    query, key, value = (torch.randn(shape) for _ in range(3))
    attention(query, key, value)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        attention(query, key, value)
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert 0 < largest < 16 * 2**20


def test_non_finite_values_do_not_spread_through_masked_keys():
    query, key, value, mask, planes, _ = sample_arguments(requires_grad=False)
    clean = yoso_sampling(query, key, value, mask, num_hash=6, hash_code_len=4, planes=planes)
    value = value.masked_fill(~mask[:, None, :, None], float("nan"))
    out = yoso_sampling(query, key, value, mask, num_hash=6, hash_code_len=4, planes=planes)
    assert torch.equal(out, clean)
    assert torch.equal(yoso_e(query, key, value, mask), yoso_e(query, key, value.nan_to_num(), mask))
