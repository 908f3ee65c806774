"""Window attention equals dense softmax attention with a band mask, with padding and at any length."""

import failed_sentences
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from harness.core import registry
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify

PLUGIN = registry.get("local_window")


def make(seq_len, window=5, **changes):
    sizes = {"heads": 2, "batch": 2, "head_dim": 24, "mode": "forward_backward"} | changes
    return OperationSpec(attention="local_window", seq_len=seq_len, knobs={"window": window}, **sizes)


def draw(*shape):
    return [torch.randn(shape, dtype=torch.float64) for _ in range(3)]


def band_mask(n, window):
    position = torch.arange(n)
    return (position[:, None] - position).abs() <= window


@pytest.mark.parametrize("seq_len", [1, 7, 131])
@pytest.mark.parametrize("window", [1, 5, 64])
@pytest.mark.parametrize("padding", [0.0, 0.25])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_it_equals_its_oracle(seq_len, window, padding, dtype):
    spec = make(seq_len, window, padding=padding, dtype=dtype)
    assert PLUGIN.unsupported(spec) == []
    assert failed_sentences.of(verify.check(PLUGIN, spec, PLUGIN.build(spec), inputs.make(spec))) == []


@pytest.mark.parametrize("seq_len", [1, 4, 5, 6, 10, 11, 29])
@pytest.mark.parametrize("window", [1, 3, 5, 40])
def test_every_row_and_gradient_equals_torchs_masked_attention(seq_len, window):
    qkv = [x.requires_grad_() for x in draw(2, 3, seq_len, 4)]
    output = PLUGIN.build(make(seq_len, window))(*qkv, None)
    expected = scaled_dot_product_attention(*qkv, attn_mask=band_mask(seq_len, window))
    torch.testing.assert_close(output, expected)
    upstream = torch.randn_like(output)
    grads, expected_grads = (torch.autograd.grad(x, qkv, upstream) for x in (output, expected))
    torch.testing.assert_close(grads, expected_grads)


def test_each_sequence_has_its_own_padding():
    q, k, v = draw(3, 2, 23, 4)
    mask = torch.rand(3, 23, generator=torch.Generator().manual_seed(0)) < 0.6
    output = PLUGIN.build(make(23))(q, k, v, mask)
    expected = scaled_dot_product_attention(q, k, v, attn_mask=(mask[:, None, None, :] & band_mask(23, 5)))
    real = mask[:, None, :, None].expand_as(output)
    torch.testing.assert_close(output[real], expected[real])


def test_padding_wider_than_the_window_gives_finite_outputs_and_gradients():
    qkv = [x.requires_grad_() for x in draw(1, 2, 60, 4)]
    mask = torch.arange(60)[None] < 9
    out = PLUGIN.build(make(60))(*qkv, mask)
    assert out.isfinite().all()
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out[:, :, :9].sum(), qkv))


def test_added_padding_does_not_change_the_outputs_of_real_tokens():
    q, k, v = draw(2, 2, 40, 4)
    module = PLUGIN.build(make(40))
    mask = (torch.arange(40) < 29).expand(2, -1)
    alone = module(q[:, :, :29], k[:, :, :29], v[:, :, :29], None)
    torch.testing.assert_close(module(q, k, v, mask)[:, :, :29], alone)
    k[:, :, 29:], v[:, :, 29:] = 50.0, 50.0
    torch.testing.assert_close(module(q, k, v, mask)[:, :, :29], alone)


def test_a_token_changes_only_the_outputs_within_the_window():
    q, k, v = draw(1, 2, 40, 4)
    module = PLUGIN.build(make(40))
    before = module(q, k, v, None)
    k[:, :, 20], v[:, :, 20] = 9.0, 9.0
    changed = (module(q, k, v, None) != before).any(-1).any(1).squeeze(0)
    assert changed.nonzero().flatten().tolist() == list(range(15, 26))


def test_a_window_over_the_whole_sequence_is_softmax():
    q, k, v = draw(1, 2, 40, 4)
    torch.testing.assert_close(PLUGIN.build(make(40, window=40))(q, k, v, None), scaled_dot_product_attention(q, k, v))


def test_no_tensor_is_n_x_n():
    """The largest tensor of a call, as seen by torch's dispatcher, is far smaller than n x n."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, torch.Tensor):
                    self.numbers = max(self.numbers, tensor.numel())
            return out

    n = 4096
    q, k, v = (x.float().requires_grad_() for x in draw(1, 1, n, 8))
    with Largest() as largest:
        PLUGIN.build(make(n, window=16))(q, k, v, None).sum().backward()
    assert 0 < largest.numbers < n * n / 20


def test_a_window_of_zero_is_unsupported():
    (reason,) = PLUGIN.unsupported(make(8, window=0))
    assert "window must be at least 1, got 0" in reason


@pytest.mark.parametrize(("n", "window"), [(1, 5), (9, 3), (9, 20)])
def test_the_cost_equals_a_count_of_the_pairs(n, window):
    spec = make(n, window, mode="forward")
    assert PLUGIN.cost(spec)["matmul float32"] == 2 * 2 * band_mask(n, window).sum() * 4 * 24
