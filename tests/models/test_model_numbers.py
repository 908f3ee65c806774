"""Whole models in 16 bits, under autocast, with padding, and where the values of the inputs cannot be read."""

import warnings

import pytest
import torch
from model_pairs import SMALL, make_yoso, tokens
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, vmap

from yoso import YosoConfig, YosoForSequenceClassification, YosoModel

IDS = tokens(2, 20, vocab_size=60)
MASK = (torch.arange(20) < torch.tensor([[13], [20]])).long()
ATTENTIONS = ("yoso", "yoso_e", "eager")


def build(model_class, attention, **fields):
    return model_class._from_config(YosoConfig(**SMALL | fields), attn_implementation=attention).eval()


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_padding_gives_no_nan_in_16_bits(attention, dtype):
    model = build(YosoModel, attention).to(dtype)
    output = model(IDS, MASK).last_hidden_state
    assert torch.isfinite(output).all()
    output.float().sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_losses_and_gradients_under_autocast_are_finite(attention, dtype):
    model = build(YosoForSequenceClassification, attention)
    with torch.autocast("cpu", dtype):
        loss = model(IDS, MASK, labels=torch.tensor([0, 1])).loss
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("place", ["fake", "meta"])
def test_a_forward_and_backward_pass_without_values(attention, place):
    """No branch depends on values, with any kind of mask: sizes and memory can be planned without running a model."""
    with FakeTensorMode() if place == "fake" else torch.device("meta"):
        model = build(YosoForSequenceClassification, attention)
        ids = torch.zeros(2, 20, dtype=torch.long)
        for mask in (None, torch.ones(2, 20, dtype=torch.long), torch.ones(2, 20), torch.ones(2, 20, dtype=torch.bool)):
            logits = model(ids, mask).logits
            assert logits.shape == (2, 2)
        logits.sum().backward()


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("masked", [False, True])
def test_gradients_per_sample_equal_a_loop(attention, masked):
    model = build(YosoForSequenceClassification, attention, num_hash=4, pad_token_id=int(IDS[0, -1]))
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    labels, mask = torch.tensor([0, 1]), MASK.float() if masked else None

    def loss(parameters, ids, label, mask):
        rows = (ids[None],) if mask is None else (ids[None], mask[None])
        return nn.functional.cross_entropy(functional_call(model, parameters, rows).logits, label[None])

    dims = (None, 0, 0, 0 if masked else None)
    torch.manual_seed(0)
    actual = vmap(grad(loss), in_dims=dims, randomness="same")(parameters, IDS, labels, mask)
    for row in range(2):
        torch.manual_seed(0)
        expected = grad(loss)(parameters, IDS[row], labels[row], mask[row] if masked else None)
        for name, gradient in expected.items():
            torch.testing.assert_close(actual[name][row], gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:`torch.jit:DeprecationWarning")
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_traced_model_computes_with_the_mask_that_it_is_called_with(attention):
    model = build(YosoModel, attention, num_hash=4).requires_grad_(False)

    def output(function, mask):
        torch.manual_seed(0)
        return function(IDS, mask)

    def hidden(ids, mask):
        return model(ids, mask).last_hidden_state

    # Traced without padding: the trace must not assume that there is none.
    traced = torch.jit.trace(hidden, (IDS, torch.ones_like(MASK)), check_trace=False)
    for mask in (MASK, torch.ones_like(MASK)):
        real = mask.bool()
        torch.testing.assert_close(output(traced, mask)[real], output(hidden, mask)[real])


def low_rank_adapter(layer, rank):
    """The two layers that peft adds to a convolution, built as peft builds them (``peft.tuners.lora.layer``)."""
    layer_class = type(layer)
    down = layer_class(
        layer.in_channels, rank, layer.kernel_size, layer.stride, layer.padding, bias=False, groups=layer.groups
    )
    up = layer_class(rank, layer.out_channels, (1, 1), (1, 1), bias=False)
    return down, up


class Adapted(nn.Module):
    """A convolution with a low-rank adapter, called as peft calls it: with the input alone."""

    def __init__(self, layer):
        super().__init__()
        self.layer, (self.down, self.up) = layer, low_rank_adapter(layer, layer.groups)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def test_an_adapter_of_the_convolution_sees_no_padding():
    model = make_yoso(**SMALL, conv_window=3)
    for layer in model.encoder.layer:
        layer.attention.self.conv = Adapted(layer.attention.self.conv)
    changed = torch.where(MASK == 1, IDS, 7)
    real = MASK.bool()
    torch.testing.assert_close(model(changed, MASK).last_hidden_state[real], model(IDS, MASK).last_hidden_state[real])


def test_peft_adapts_the_convolution():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peft = pytest.importorskip("peft", reason="peft is not installed")
        config = peft.LoraConfig(target_modules=["conv", "query"], r=SMALL["num_attention_heads"])
        model = peft.get_peft_model(make_yoso(**SMALL, conv_window=3), config)
    model(input_ids=IDS, attention_mask=MASK).last_hidden_state.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.requires_grad)
