"""The attentions as a model calls them: results compared with float64, determinism, streams, CUDA graphs."""

from functools import partial

import pytest
import torch
from attention_arguments import make_qkv
from yoso_cases import BACKWARD, DTYPES, assert_near, on

from yoso.attention import yoso_e, yoso_sampling
from yoso.ops import reference
from yoso.ops.hashing import HASH_FAMILIES, draw_planes

M, TAU = 24, 7
SIZES = {"num_hash": M, "hash_code_len": TAU}


def planes_for(heads, dim, family="hadamard"):
    generator = torch.Generator().manual_seed(1)
    return draw_planes(family, groups=heads, head_dim=dim, generator=generator, **SIZES)


def attention(name, device, heads=4, dim=64):
    """A function of query, key, value and a mask."""
    if name == "yoso_e":
        return partial(yoso_e, hash_code_len=TAU)
    planes = planes_for(heads, dim).to(device)
    return partial(yoso_sampling, planes=planes, lsh_backward=name == "yoso_sampling", **SIZES)


def leaves(device, *shape, dtype=torch.float32):
    return [x.to(device).requires_grad_() for x in make_qkv(*shape, dtype=dtype)]


def results(call, inputs, mask=None):
    out = call(*inputs, mask)
    return [out.detach(), *torch.autograd.grad(out, inputs, torch.ones_like(out))]


NAMES = ("yoso_e", "yoso_sampling", "yoso_sampling over all pairs")
NORMALIZATIONS = ({}, {"norm_floor": 0.3}, {"normalization": "sum"}, {"normalization": "sum", "norm_floor": 0.1})


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("family", "normalization"),
    [*((family, {}) for family in HASH_FAMILIES), *(("hadamard", options) for options in NORMALIZATIONS[1:])],
    ids=str,
)
def test_sampling_and_its_gradients_equal_the_definition(device, family, normalization, dtype):
    inputs = leaves(device, 2, 2, 300, 64, dtype=dtype)
    mask = torch.arange(300) < torch.tensor([[300], [211]])
    planes = planes_for(4, 64, family)
    call = partial(yoso_sampling, planes=planes.to(device), hash_family=family, **SIZES, **normalization)
    weight = torch.randn(2, 2, 300, 64, generator=torch.Generator().manual_seed(5)).to(dtype)
    out = call(*inputs, mask.to(device))
    actual = [out, *torch.autograd.grad(out, inputs, weight.to(device))]
    wide = [x.detach().cpu().double().requires_grad_() for x in inputs]
    codes = []
    for x in inputs[:2]:
        device_codes = torch.ops.yoso.fast_hash(x.detach(), planes.to(device), M, TAU, family).cpu()
        codes.append(
            reference.settle_codes(device_codes, x.detach().cpu().float(), planes, hash_family=family, **SIZES)
        )
    truth = reference.yoso_sampling(*wide, *codes, mask, mask, hash_code_len=TAU, **normalization)
    expected = [truth, *torch.autograd.grad(truth, wide, weight.double())]
    for result, right in zip(actual, expected, strict=True):
        assert_near(result, right, BACKWARD[dtype])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids=str)
def test_the_expectation_and_its_gradients_equal_the_definition(device, normalization, dtype):
    inputs = leaves(device, 2, 2, 300, 64, dtype=dtype)
    mask = torch.arange(300) < torch.tensor([[300], [211]])
    actual = results(partial(yoso_e, hash_code_len=TAU, **normalization), inputs, mask.to(device))
    wide = [x.detach().cpu().double().requires_grad_() for x in inputs]
    expected = results(partial(_reference_e, mask=mask, normalization=normalization), wide)
    for result, right in zip(actual, expected, strict=True):
        assert_near(result, right, BACKWARD[dtype])


def _reference_e(query, key, value, _, mask, normalization):
    return reference.yoso_e(query, key, value, mask, mask, hash_code_len=TAU, **normalization)


@pytest.mark.parametrize("name", NAMES)
def test_repeats_give_the_same_bits(device, name):
    inputs = leaves(device, 2, 2, 700, 64)
    call = attention(name, device)
    first = results(call, inputs)
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, results(call, inputs), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_does_not_depend_on_the_rest_of_the_batch(device, name):
    """Heads are independent: the same planes and rows give the same result in any batch."""
    inputs = leaves(device, 2, 2, 257, 64)
    both = results(attention(name, device), inputs)
    alone = [x.detach()[:1].contiguous().requires_grad_() for x in inputs]
    call = attention(name, device)
    if name != "yoso_e":
        call = partial(call, planes=call.keywords["planes"][:2])
    for a, b in zip(both, results(call, alone), strict=True):
        assert_near(a[:1], b, 1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_algorithms_and_poisoned_memory(device, name):
    """In this mode torch fills new memory with NaN, so that a read before a write shows."""
    inputs = leaves(device, 2, 2, 300, 64)
    call = attention(name, device)
    expected = results(call, inputs)
    torch.use_deterministic_algorithms(True)
    try:
        actual = results(call, inputs)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_transposed_heads_give_the_same_bits_as_contiguous_ones(device, name):
    flat = [x.transpose(1, 2) for x in make_qkv(2, 300, 2, 64)]
    views = [x.requires_grad_() for x in on(device, tuple(flat))]
    copies = [x.detach().contiguous().requires_grad_() for x in views]
    assert not views[0].is_contiguous()
    call = attention(name, device)
    assert all(torch.equal(a, b) for a, b in zip(results(call, views), results(call, copies), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_calls_on_another_stream(cuda, name):
    call = attention(name, cuda)
    inputs = leaves(cuda, 2, 2, 700, 64)
    expected = results(call, inputs)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    for _ in range(3):
        with torch.cuda.stream(stream):
            # The inputs are written late on this stream; a kernel on another stream would read the zeros before them.
            late = [torch.zeros_like(x) for x in inputs]
            torch.cuda._sleep(20_000_000)
            for late_input, values in zip(late, inputs, strict=True):
                late_input.copy_(values.detach())
            actual = results(call, [x.requires_grad_() for x in late])
        stream.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward_backward"])
def test_a_graph_replays_on_new_inputs(cuda, name, backward):
    call = attention(name, cuda)
    inputs = leaves(cuda, 2, 2, 333, 64)
    other = [x.detach().roll(1, 2) for x in inputs]

    def step(inputs):
        if backward:
            return results(call, inputs)
        with torch.no_grad():
            return [call(*inputs, None)]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # warm-up on another stream, as torch's notes on CUDA graphs require
        for _ in range(3):
            step(inputs)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        static = step(inputs)
    for new_inputs in (other, [x.flip(2) for x in other]):
        expected = step([x.clone().requires_grad_() for x in new_inputs])
        with torch.no_grad():
            for static_input, values in zip(inputs, new_inputs, strict=True):
                static_input.copy_(values)
        graph.replay()
        torch.cuda.synchronize()
        assert all(torch.equal(a, b) for a, b in zip(static, expected, strict=True))


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("name", NAMES)
def test_a_call_does_not_synchronize(cuda, name):
    """In this mode torch raises if a call synchronizes. The planes are passed, so none are copied to the device."""
    call = attention(name, cuda)
    inputs = leaves(cuda, 2, 2, 300, 64)
    results(call, inputs)
    torch.cuda.set_sync_debug_mode("error")
    try:
        results(call, inputs)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_a_device_that_is_not_the_current_one(cuda):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA devices")
    for name in NAMES:
        expected = results(attention(name, "cuda:0"), leaves("cuda:0", 2, 2, 300, 64))
        actual = results(attention(name, "cuda:1"), leaves("cuda:1", 2, 2, 300, 64))
        assert all(torch.equal(a.cpu(), b.cpu()) for a, b in zip(actual, expected, strict=True))
