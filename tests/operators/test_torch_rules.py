"""The operators follow torch's rules: opcheck, compile, autocast, dtypes, strides, meta, double backward, memory."""

import pytest
import torch
from attention_arguments import ATTENTIONS, make_attention, make_qkv

from yoso.attention import expectation_weights, yoso_e, yoso_sampling
from yoso.ops.estimators import draw_shared_keys
from yoso.ops.hashing import draw_planes

ON_CPU = {"profile_memory": True, "activities": [torch.profiler.ProfilerActivity.CPU], "acc_events": True}
"""torch 2.11 warns where ``acc_events`` is not given."""


def sample_arguments(requires_grad=True):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 30, 16, requires_grad=requires_grad) for _ in range(3))
    mask = torch.rand(2, 30) > 0.2
    planes = draw_planes("hadamard", groups=4, head_dim=16, num_hash=6, hash_code_len=4)
    codes = [torch.ops.yoso.fast_hash(x.detach(), planes, 6, 4, "hadamard") for x in (query, key)]
    return query, key, value, mask, planes, codes


def test_opcheck_finds_nothing():
    query, key, value, mask, planes, codes = sample_arguments()
    grad, ids = torch.randn(2, 2, 30, 16), draw_shared_keys(5, (2, 2, 30), mask)
    plain = [x.detach() for x in (query, key, value)]
    ops = torch.ops.yoso
    cases = [
        (ops.fast_hash, (plain[0], planes, 6, 4, "hadamard")),
        (ops.lsh_cumulation, (*codes, value, mask, mask, 4)),
        (ops.lsh_attention, (query, key, value, *codes, mask, None, 4, True)),
        (ops.lsh_attention, (query, key, value, *codes, None, mask, 4, False)),
        (ops.lsh_attention_backward, (grad, *plain, *codes, mask, mask, 4)),
        (ops.rescored_attention, (query, key, value, *codes, ids, mask, None, 4, 40, 0.2, True, True)),
        (ops.rescored_attention, (query, key, value, *codes, ids, None, mask, 4, 40, 0.0, False, False)),
        (ops.rescored_attention_backward, (grad, *plain, *codes, ids, mask, mask, 4, 40, 0.2, True)),
        (ops.unit_rows, (value,)),
        (ops.unit_rows_, (value.detach().clone(),)),
        (ops.unit_rows_backward, (grad, value.detach())),
        (ops.floored_unit_rows, (value, torch.rand(2, 2, requires_grad=True))),
        (ops.floored_unit_rows_backward, (grad, value.detach(), torch.rand(2, 2))),
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
def test_double_backward_raises_an_error_that_says_why(attention):
    """The functions of transformers silently return a wrong second derivative."""
    query, key, value, mask, _, _ = sample_arguments()
    out = attention(query, key, value, mask)
    (first,) = torch.autograd.grad((out * value.detach()).sum(), query, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivative"):
        first.sum().backward()


@pytest.mark.parametrize("attention", [yoso_e, yoso_sampling])
def test_memory_grows_linearly_with_the_length(attention):
    """A single n x n tensor would be 64 MiB at n = 4096; the largest allocation of the operators is below 16 MiB."""
    shape = (1, 1, 4096, 16)
    query, key, value = (torch.randn(shape) for _ in range(3))
    attention(query, key, value)
    with torch.profiler.profile(**ON_CPU) as profile:
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


def gradients(attention, tensors, weight):
    inputs = [x.detach().requires_grad_() for x in tensors]
    out = attention(*inputs)
    return [out.detach(), *torch.autograd.grad(out, inputs, weight.to(out.dtype))]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ATTENTIONS)
def test_autocast_accepts_mixed_dtypes_and_equals_explicit_casts(name, dtype):
    attention = make_attention(name)
    tensors = [x.to(d) for x, d in zip(make_qkv(2, 2, 30, 16), (torch.float32, dtype, torch.float32), strict=True)]
    weight = make_qkv(2, 2, 30, 16)[2].flip(2)
    with pytest.raises(ValueError, match="dtype"):
        attention(*tensors)
    expected = gradients(attention, [x.to(dtype) for x in tensors], weight)
    with torch.autocast("cpu", dtype=dtype):
        out, *grads = gradients(attention, tensors, weight)
    assert out.dtype == dtype
    assert torch.equal(out, expected[0])
    for x, actual, truth in zip(tensors, grads, expected[1:], strict=True):
        assert actual.dtype == x.dtype
        assert torch.equal(actual, truth.to(x.dtype))


def test_autocast_of_the_operators_leaves_codes_planes_and_float64_alone():
    query, key, value, mask, planes, codes = sample_arguments(requires_grad=False)
    ops = torch.ops.yoso
    low = [x.bfloat16() for x in (query, key, value)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = (low[0], key, value)
        assert torch.equal(ops.expectation(*mixed, mask, mask, 4), ops.expectation(*low, mask, mask, 4))
        attended = ops.lsh_attention(*mixed, *codes, mask, mask, 4, True)
        assert torch.equal(ops.lsh_cumulation(*codes, value, mask, mask, 4), attended)
        assert attended.dtype == torch.bfloat16
        gaussian = draw_planes("gaussian", groups=1, head_dim=16, num_hash=6, hash_code_len=4)
        inside = [ops.fast_hash(query, p, 6, 4, f) for p, f in ((planes, "hadamard"), (gaussian, "gaussian"))]
        assert ops.unit_rows(query).dtype == torch.float32
        assert yoso_e(query.double(), key.double(), value.double()).dtype == torch.float64
        assert torch.isfinite(expectation_weights(query, low[0])).all()
    assert torch.equal(inside[0], codes[0])
    assert torch.equal(inside[1], ops.fast_hash(query, gaussian, 6, 4, "gaussian"))


@pytest.mark.parametrize("attention", [yoso_e, yoso_sampling])
def test_meta_tensors_give_the_shapes_of_results_and_gradients(attention):
    query, key, value = (x.to("meta").requires_grad_() for x in make_qkv(2, 3, 50, 16))
    out = attention(query, key, value[..., :7], torch.ones(2, 50, dtype=torch.bool, device="meta"))
    assert (out.shape, out.device.type, out.dtype) == ((2, 3, 50, 7), "meta", torch.float32)
    assert [g.shape for g in torch.autograd.grad(out.sum(), (query, key, value))] == [query.shape] * 3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["yoso_e", "yoso_sampling"])
def test_low_precision_sums_in_float32(name, dtype):
    """500 equal rows: a sum in 16 bits stops growing after 1 / eps terms; in float32 only the output is rounded."""
    value = torch.linspace(0.5, 1.5, 500)[:, None].expand(1, 1, 500, 16).to(dtype)
    codes = [torch.zeros(1, 1, 3, 500, dtype=torch.uint16) for _ in range(2)]
    ops = torch.ops.yoso
    # Equal rows of length 1, exact in any dtype, so that every weight is 1.
    axis = torch.zeros(1, 1, 500, 16, dtype=dtype)
    axis[..., 0] = 1
    if name == "yoso_e":
        out = ops.expectation(axis, axis, value, None, None, 4)
    else:
        out = ops.lsh_cumulation(*codes, value, None, None, 4)
    truth = value.double().sum(2, keepdim=True).expand(1, 1, 500, 16)
    assert ((out.double() - truth).abs() <= truth.abs() * torch.finfo(dtype).eps * 0.51).all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_strides_do_not_change_a_bit(name):
    attention = make_attention(name)
    mask = torch.rand(2, 30, generator=torch.Generator().manual_seed(0)) > 0.2
    query, key, value = make_qkv(2, 2, 30, 16)
    weight = value.flip(2)

    def strided(x):
        return torch.stack([x, x]).movedim(0, -1)[..., 1]

    strided_mask = torch.stack([mask, mask], -1)[..., 0]
    expanded = value[:1, :1].expand(2, 2, 30, 16)
    for inputs, contiguous in (
        ([query.transpose(1, 2).contiguous().transpose(1, 2), strided(key), strided(value)], [query, key, value]),
        ([query, expanded, expanded], [query, expanded.contiguous(), expanded.contiguous()]),
    ):
        assert any(not x.is_contiguous() for x in inputs)
        actual = gradients(lambda *x: attention(*x, strided_mask), inputs, strided(weight))
        expected = gradients(lambda *x: attention(*x, mask), contiguous, weight)
        assert all(torch.equal(a, e) for a, e in zip(actual, expected, strict=True))


@pytest.mark.parametrize("name", ATTENTIONS)
def test_no_memory_is_kept_between_calls(name):
    attention, qkv = make_attention(name), make_qkv(2, 2, 300, 16)

    def balance(keep):
        """Bytes allocated minus bytes released in four calls, of which ``keep`` keeps the outputs."""
        kept = []
        with torch.profiler.profile(**ON_CPU) as profile:
            for _ in range(4):
                results = gradients(attention, qkv, qkv[2])
                if keep:
                    kept.append(results[0])
                del results
        return sum(event.self_cpu_memory_usage for event in profile.events())

    gradients(attention, qkv, qkv[2])
    assert balance(keep=False) == 0
    assert balance(keep=True) >= 4 * qkv[2].nbytes, "the balance does not count memory that is kept"
