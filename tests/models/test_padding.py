"""Padding must not affect the outputs and gradients of real tokens, with any attention."""

import pytest
import torch
from model_pairs import HEADS, NO_DROPOUT, SMALL, largest_difference, make_yoso, tokens

ATTENTIONS = ["yoso_e", "yoso", "eager", "sdpa"]
REAL, PADDED = 17, 29


def padded(ids):
    filler = torch.full((*ids.shape[:-1], PADDED - REAL), SMALL["vocab_size"] - 1)
    mask = torch.ones(*ids.shape[:-1], PADDED, dtype=torch.long)
    mask[..., REAL:] = 0
    return torch.cat([ids, filler], -1), mask


def run(model, ids, mask, seed=5):
    torch.manual_seed(seed)
    return model(ids, attention_mask=mask).last_hidden_state[:, :REAL]


@pytest.mark.parametrize("conv_window", [None, 5])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_does_not_change_the_outputs_of_real_tokens(attention, conv_window):
    model = make_yoso(**SMALL, attn_implementation=attention, conv_window=conv_window)
    ids = tokens(2, REAL, vocab_size=50)
    with torch.no_grad():
        assert largest_difference(run(model, *padded(ids)), run(model, ids, None)) <= 1e-6


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_does_not_change_the_gradients(attention):
    ids = tokens(2, REAL, vocab_size=50)
    weight = torch.randn(2, REAL, 32, generator=torch.Generator().manual_seed(1)) / REAL
    grads = []
    for ids_and_mask in ((ids, None), padded(ids)):
        model = make_yoso(**SMALL, **NO_DROPOUT, attn_implementation=attention, conv_window=3).train()
        (run(model, *ids_and_mask) * weight).sum().backward()
        grads.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, alone in grads[0].items():
        scale = max(1.0, alone.abs().max().item())
        assert largest_difference(grads[1][name], alone) <= 1e-6 * scale, name


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("dtype", [torch.bool, torch.long, torch.float32])
def test_a_mask_of_ones_of_any_dtype_equals_no_mask(attention, dtype):
    model = make_yoso(**SMALL, attn_implementation=attention, conv_window=3)
    ids = tokens(2, REAL, vocab_size=50)
    assert largest_difference(run(model, ids, torch.ones_like(ids, dtype=dtype)), run(model, ids, None)) <= 1e-6


def test_padding_inside_the_sequence_has_no_effect():
    model = make_yoso(**SMALL, conv_window=5)
    ids = tokens(1, REAL, vocab_size=50)
    mask = torch.ones_like(ids)
    mask[0, [0, 4, 5, 11]] = 0
    changed_at_padding = torch.where(mask == 0, 55, ids)
    real = mask[0] == 1
    assert largest_difference(run(model, ids, mask)[:, real], run(model, changed_at_padding, mask)[:, real]) == 0


@pytest.mark.parametrize("head", HEADS[1:])
def test_padding_does_not_change_the_outputs_of_task_heads(head):
    model = make_yoso(head, **SMALL)
    ids = tokens(2, REAL, vocab_size=50, choices=3 if head == "ForMultipleChoice" else None)
    long, mask = padded(ids)
    with torch.no_grad():
        alone, with_padding = model(ids)[0], model(long, attention_mask=mask)[0]
    if alone.shape != with_padding.shape:
        with_padding = with_padding[:, :REAL]
    # Logits of the masked language model are sums of 32 large products, so the limit is relative to their size.
    assert largest_difference(with_padding, alone) <= 1e-6 * max(1.0, alone.abs().max().item())


def test_a_sequence_of_padding_only_has_finite_outputs():
    model = make_yoso(**SMALL, conv_window=3)
    ids = tokens(2, 8, vocab_size=50)
    mask = torch.ones_like(ids)
    mask[1] = 0
    assert model(ids, attention_mask=mask).last_hidden_state.isfinite().all()
