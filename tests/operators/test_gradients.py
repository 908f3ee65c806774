"""Gradients beyond the oracles: finite differences for the exact ones, unbiasedness for the sampled ones."""

import logging
import math

import pytest
import torch

from yoso import attention
from yoso.attention import dense_yoso_e, expectation_weights, yoso_e, yoso_sampling
from yoso.ops import portable
from yoso.ops.hashing import draw_planes


def unit_inputs(length=12, dim=6, value_dim=5):
    torch.manual_seed(0)
    query, key = (torch.nn.functional.normalize(torch.randn(1, 2, length, dim).double(), dim=-1) for _ in range(2))
    return query, key, torch.randn(1, 2, length, value_dim).double()


@pytest.mark.parametrize("tau", [1, 2, 9, 16])
def test_the_exact_gradient_passes_finite_differences(tau):
    inputs = [x.requires_grad_() for x in unit_inputs()]
    mask = torch.ones(1, 12, dtype=torch.bool)
    mask[0, -3:] = False
    assert torch.autograd.gradcheck(
        lambda q, k, v: yoso_e(q, k, v, mask, hash_code_len=tau, exact_gradient=True), inputs
    )


def test_the_gradient_of_value_passes_finite_differences_with_the_surrogate_too():
    query, key, value = unit_inputs()
    value.requires_grad_()
    assert torch.autograd.gradcheck(lambda v: yoso_e(query, key, v, hash_code_len=9), value)
    codes = torch.randint(0, 4, (1, 2, 3, 12)).to(torch.uint16)
    assert torch.autograd.gradcheck(lambda v: torch.ops.yoso.lsh_cumulation(codes, codes, v, None, None, 2), value)


@pytest.mark.parametrize(("normalization", "norm_floor"), [("l2", 0.3), ("sum", 0.0), ("sum", 0.3)])
def test_the_gradients_of_every_normalization_pass_finite_differences(normalization, norm_floor):
    """Also through the values in the mean of the floor, and through the sum of the weights."""
    inputs = [x.requires_grad_() for x in unit_inputs(length=5, dim=3, value_dim=2)]
    mask = torch.tensor([[True, True, True, True, False]])
    options = {"hash_code_len": 9, "normalization": normalization, "norm_floor": norm_floor}
    assert torch.autograd.gradcheck(lambda q, k, v: yoso_e(q, k, v, mask, exact_gradient=True, **options), inputs)
    assert torch.autograd.gradgradcheck(lambda q, k, v: dense_yoso_e(q, k, v, mask, **options)[0], inputs)
    planes = draw_planes("gaussian", groups=1, head_dim=3, num_hash=4, hash_code_len=2)
    options |= {"num_hash": 4, "hash_code_len": 2, "hash_family": "gaussian", "planes": planes}
    query, key, value = inputs
    assert torch.autograd.gradcheck(lambda v: yoso_sampling(query, key, v, mask, **options), value)


def test_the_gradient_of_the_floor_of_rows_passes_finite_differences():
    x = unit_inputs()[2].requires_grad_()
    floor = torch.tensor([[0.5, 2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(torch.ops.yoso.floored_unit_rows, (x, floor))


def test_the_exact_gradient_is_finite_at_its_pole():
    query, _, value = (x.float().requires_grad_() for x in unit_inputs())
    out = yoso_e(query, query, value, hash_code_len=9, exact_gradient=True)
    (gradient,) = torch.autograd.grad(out.sum(), query)
    assert torch.isfinite(gradient).all()


def test_the_ratio_of_surrogate_to_derivative_is_the_known_one():
    """surrogate / derivative = (pi - theta) sin(theta) / 2."""
    theta = torch.linspace(0.05, 3.0, 30, dtype=torch.float64)
    query = torch.tensor([[[[1.0, 0.0]]]], dtype=torch.float64).expand(1, 1, 1, 2)
    key = torch.stack([theta.cos(), theta.sin()], -1)[None, None]
    for tau in (1, 9):
        ratios = []
        for value in torch.eye(30, dtype=torch.float64):
            args = (torch.ones(1, 1, 1, 1).double(), query, key, value[None, None, :, None], None, None, tau)
            surrogate, exact = (torch.ops.yoso.expectation_backward(*args, flag)[1].norm() for flag in (False, True))
            ratios.append((surrogate / exact).item())
        expected = (math.pi - theta) * theta.sin() / 2
        torch.testing.assert_close(torch.tensor(ratios, dtype=torch.float64), expected)
        assert max(ratios) < 0.911


@pytest.mark.parametrize("hash_family", ["gaussian", "hadamard"])
def test_the_sampled_gradient_is_unbiased(hash_family):
    """The mean over independent planes is the surrogate over all pairs, within its statistical error."""
    tau, num_hash, draws = 4, 8, 3000
    query, key, value = unit_inputs(length=10, dim=16)
    grad = torch.randn(1, 2, 10, 5).double()
    expected = torch.ops.yoso.expectation_backward(grad, query, key, value, None, None, tau)
    total = [torch.zeros_like(x) for x in expected]
    squares = [torch.zeros_like(x) for x in expected]
    generator = torch.Generator().manual_seed(5)
    for _ in range(draws):
        planes = draw_planes(
            hash_family, groups=2, head_dim=16, num_hash=num_hash, hash_code_len=tau, generator=generator
        )
        codes = [torch.ops.yoso.fast_hash(x, planes, num_hash, tau, hash_family) for x in (query, key)]
        sampled = torch.ops.yoso.lsh_attention_backward(grad, query, key, value, *codes, None, None, tau)
        for summed, square, x in zip(total, squares, sampled, strict=True):
            summed += x
            square += x**2
    for summed, square, truth in zip(total, squares, expected, strict=True):
        mean = summed / draws
        error = ((square / draws - mean**2).clamp(min=0) / draws).sqrt()
        assert ((mean - truth).abs() <= 5 * error + 1e-12).double().mean() > 0.99
        assert (mean - truth).norm() < 1.5 * error.norm()


@pytest.mark.parametrize("heads", [1, 3, 8])
def test_heads_that_are_split_between_threads_add_up(heads):
    """With fewer heads than parallel tasks, the backward passes split a head and add the parts."""
    torch.manual_seed(0)
    query, key = (torch.nn.functional.normalize(torch.randn(1, heads, 1300, 8).double(), dim=-1) for _ in range(2))
    value, grad = (torch.randn(1, heads, 1300, 8).double() for _ in range(2))
    codes = [torch.randint(0, 256, (1, heads, 13, 1300)).to(torch.uint16) for _ in range(2)]
    for native, plain, args in (
        (
            torch.ops.yoso.lsh_attention_backward,
            portable.lsh_attention_backward,
            (grad, query, key, value, *codes, None, None, 8),
        ),
        (
            torch.ops.yoso.expectation_backward,
            portable.expectation_backward,
            (grad, query, key, value, None, None, 8),
        ),
    ):
        for actual, expected in zip(native(*args), plain(*args), strict=True):
            torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-12)


def test_dense_weights_pass_first_and_second_finite_differences():
    query, key, _ = unit_inputs()
    inputs = [x.requires_grad_() for x in (query, key)]
    assert torch.autograd.gradcheck(lambda q, k: expectation_weights(q, k, hash_code_len=5), inputs)
    assert torch.autograd.gradgradcheck(lambda q, k: expectation_weights(q, k, hash_code_len=5), inputs)


def test_a_sampled_output_with_the_gradient_over_all_pairs_warns_once_and_only_where_it_trains(caplog):
    inputs = [torch.randn(1, 1, 8, 4) for _ in range(3)]
    trained = [x.clone().requires_grad_() for x in inputs]
    attention._warn_of_a_gradient_without_the_noise.cache_clear()
    with caplog.at_level(logging.WARNING, logger="yoso.attention"):
        yoso_sampling(*inputs, num_hash=2, lsh_backward=False)
        yoso_sampling(*trained, num_hash=2, lsh_backward=True)
        with torch.no_grad():
            yoso_sampling(*trained, num_hash=2, lsh_backward=False)
        assert not caplog.records
        for _ in range(2):
            yoso_sampling(*trained, num_hash=2, lsh_backward=False).sum().backward()
    assert len(caplog.records) == 1
    assert "Train with lsh_backward=True" in caplog.text
