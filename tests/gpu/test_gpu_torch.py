"""torch's own checks of the operators on a GPU: opcheck, torch.compile, autocast, the profiler."""

import pytest
import torch
from test_gpu_attention import NAMES, attention, leaves, results
from yoso_cases import OPERATORS, Shape, arguments, assert_near, make, on, operator, planes_of

from harness.measure import launches

SHAPE = Shape(2, 2, 30, 30, 16, 16, 6, 4)


@pytest.mark.parametrize("name", OPERATORS)
def test_opcheck(device, name):
    torch.library.opcheck(operator(name).default, on(device, arguments(name, make(SHAPE))))


def test_opcheck_of_the_hash(device):
    x, planes = on(device, (make(SHAPE).key, planes_of(SHAPE, "hadamard")))
    torch.library.opcheck(torch.ops.yoso.fast_hash.default, (x, planes, 6, 4, "hadamard"))


@pytest.mark.parametrize("lsh_backward", [True, False])
def test_opcheck_of_the_attention_with_its_gradient(device, lsh_backward):
    case = make(SHAPE)
    query, key, value = (x.requires_grad_() for x in on(device, (case.query, case.key, case.value)))
    codes, masks = on(device, case.codes), on(device, case.masks)
    torch.library.opcheck(torch.ops.yoso.lsh_attention.default, (query, key, value, *codes, *masks, 4, lsh_backward))


# torch's inductor uses a deprecated function when it is imported.
@pytest.mark.filterwarnings(r"ignore:`torch\.jit\.script_method` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", NAMES)
def test_training_compiles_as_one_graph(device, name):
    call = attention(name, device)
    inputs = leaves(device, 2, 2, 130, 64)
    backend = "inductor" if device == "cuda" else "aot_eager"
    compiled = torch.compile(call, fullgraph=True, backend=backend)
    for actual, expected in zip(results(compiled, inputs), results(call, inputs), strict=True):
        assert_near(actual, expected, 1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_autocast_computes_in_its_dtype(device, name):
    inputs = leaves(device, 2, 2, 130, 64)
    with torch.autocast(device, torch.bfloat16):
        out = attention(name, device)(*inputs, None)
    assert out.dtype == torch.bfloat16
    assert all(g.isfinite().all() for g in torch.autograd.grad(out.float().sum(), inputs))


def test_the_kernels_of_a_call_are_counted(cuda):
    x = torch.ones(1000, device=cuda)
    assert launches.count(lambda: x.add_(1).mul_(2), cuda) == 2
    assert launches.count(x.clone, cuda) == 0  # a copy is not a kernel
    assert launches.count(lambda: None, cuda) == 0
