"""Faults of transformers' own YOSO (5.17 to 5.23), each held to one check twice: right here, wrong there.

The second half documents the fault. If such an assertion fails, transformers has mended it: drop that half.
"""

import pytest
import torch
from model_pairs import NO_DROPOUT, SMALL, largest_difference, make_ours, make_pair, tokens
from torch.func import functional_call, grad
from transformers.models import yoso as theirs
from transformers.models.yoso import modeling_yoso

import yoso
from yoso.transformers_attention import logger

REAL, PADDED = 17, 29
IDS = tokens(2, PADDED, vocab_size=60)
SHORT = IDS[:, :REAL]
MASK = (torch.arange(PADDED) < REAL).long().expand(2, -1)


def moved_by_padding(model, mask):
    """How far the outputs of real tokens move when padding is added."""
    with torch.no_grad():
        alone = model(SHORT, attention_mask=torch.ones_like(SHORT)).last_hidden_state
        return largest_difference(model(IDS, attention_mask=mask).last_hidden_state[:, :REAL], alone)


def test_fault_1_padding_is_never_masked():
    mine, other = make_pair(**SMALL)
    assert moved_by_padding(mine, MASK) <= 1e-6
    assert moved_by_padding(other, MASK) > 1e-2
    with torch.no_grad():
        masked, unmasked = other(IDS, attention_mask=MASK), other(IDS, attention_mask=torch.ones_like(IDS))
    assert torch.equal(masked.last_hidden_state, unmasked.last_hidden_state)


def test_fault_2_gaussian_hashing_ignores_the_query():
    query, key = torch.randn(2, 1, 50, 16).unbind()
    codes = modeling_yoso.hashing(query, key, 4, 6)
    assert torch.equal(*codes)  # transformers: the query has the key's codes

    truth = make_ours(**SMALL)(SHORT).last_hidden_state
    model = make_ours(**SMALL, use_expectation=False, use_fast_hash=False, num_hash=2048)
    assert model.config.resolved_hash_family == "gaussian"
    assert ((model(SHORT).last_hidden_state - truth).norm() / truth.norm()).item() < 0.1


def test_fault_3_equal_query_and_key_give_nan():
    mine, other = make_pair(**SMALL)
    for model in (mine, other):
        for layer in model.encoder.layer:
            layer.attention.self.key.load_state_dict(layer.attention.self.query.state_dict())
    assert not other(IDS).last_hidden_state.isfinite().all()
    output = mine(IDS).last_hidden_state
    output.square().mean().backward()
    assert output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in mine.parameters())


def test_fault_4_sampling_needs_cuda():
    mine, other = make_pair(**SMALL, use_expectation=False)
    assert mine(IDS).last_hidden_state.isfinite().all()
    if modeling_yoso.lsh_cumulation is None:
        with pytest.raises(AttributeError, match="fast_hash"):
            other(IDS)


def test_fault_5_no_mask_is_right_for_the_convolution():
    mine, other = make_pair(**SMALL, conv_window=5)
    assert moved_by_padding(mine, MASK) <= 1e-6
    for mask in (MASK, (1 - MASK) * -10000.0):
        assert moved_by_padding(other, mask) > 1e-2


def test_fault_5_an_even_window_crashes():
    with pytest.raises(ValueError, match="conv_window: expected an odd number"):
        yoso.YosoConfig(**SMALL, conv_window=4)
    other = theirs.YosoModel(theirs.YosoConfig(**SMALL, conv_window=4))
    with pytest.raises(RuntimeError, match="size of tensor"):
        other(IDS)


@pytest.mark.parametrize("attention", ["yoso_e", "yoso", "eager"])
def test_fault_6_output_attentions_gives_the_context(attention):
    mine = make_ours(**SMALL, attn_implementation=attention)
    attentions = mine(IDS, attention_mask=MASK, output_attentions=True).attentions
    assert [weights.shape for weights in attentions] == [(2, 4, PADDED, PADDED)] * 2
    for weights in attentions:
        assert weights[:, :, :REAL, :REAL].min() >= 0
        assert weights.max() <= 1
        assert weights[:, :, :REAL, :REAL].max() > 0
        assert weights[..., REAL:].abs().max() == 0
    other = theirs.YosoModel(theirs.YosoConfig(**SMALL))
    assert other(IDS, output_attentions=True).attentions[0].shape == (2, PADDED, SMALL["hidden_size"])


def test_fault_6_attentions_are_the_weights_that_were_used():
    model = make_ours(**(SMALL | {"num_hidden_layers": 1}))
    layer = model.encoder.layer[0].attention.self
    contexts = []
    layer.register_forward_hook(lambda _module, _inputs, output: contexts.append(output[0]))
    result = model(SHORT, output_attentions=True, output_hidden_states=True)
    value = layer.value(result.hidden_states[0]).view(2, REAL, 4, 8).transpose(1, 2)
    expected = torch.nn.functional.normalize(result.attentions[0] @ value, dim=-1)
    assert largest_difference(contexts[0], expected.transpose(1, 2).flatten(-2)) < 1e-5


def test_fault_6_an_attention_without_weights_says_so():
    model = make_ours(**SMALL, attn_implementation="sdpa")
    with pytest.raises(ValueError, match="output_attentions=True: attention 'sdpa' does not give its weights"):
        model(IDS, output_attentions=True)


def second_derivative(model):
    """Of a scalar along one direction: by autograd, and by differences of the first derivative."""
    generator = torch.Generator().manual_seed(0)
    start, direction, weight = torch.randn(3, 1, 6, 32, generator=generator, dtype=torch.float64)

    def slope(t):
        output = model(inputs_embeds=start + t * direction).last_hidden_state
        return torch.autograd.grad((output * weight).sum(), t, create_graph=True)[0]

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (by_autograd,) = torch.autograd.grad(slope(t), t)
    step = 1e-5
    up, down = (slope(torch.tensor(x, dtype=torch.float64, requires_grad=True)) for x in (step, -step))
    return by_autograd.item(), ((up - down) / (2 * step)).item()


def test_fault_7_double_backward_is_silently_wrong():
    mine, other = make_pair(**SMALL)
    mine, other = mine.double(), other.double()
    with pytest.raises(NotImplementedError, match="no second derivative"):
        second_derivative(mine)
    by_autograd, by_differences = second_derivative(other)
    assert abs(by_autograd - by_differences) > 0.01 * abs(by_differences)
    mine.set_attn_implementation("eager")
    by_autograd, by_differences = second_derivative(mine)
    assert by_autograd == pytest.approx(by_differences, rel=1e-4)


def test_fault_7_torch_func_raises():
    mine, other = make_pair(**SMALL)
    mine.set_attn_implementation("eager")

    def gradient(model):
        weights = dict(model.named_parameters())
        return grad(lambda w: functional_call(model, w, (SHORT,)).last_hidden_state[0].sum())(weights)

    with pytest.raises(RuntimeError, match="functorch"):
        gradient(other)
    expected = make_ours(**SMALL, attn_implementation="eager")
    expected(SHORT).last_hidden_state[0].sum().backward()
    for (name, found), parameter in zip(gradient(mine).items(), expected.parameters(), strict=True):
        assert largest_difference(found, parameter.grad) <= 1e-5 * (1 + parameter.grad.abs().max().item()), name


@pytest.mark.parametrize("attention", ["yoso_e", "yoso"])
def test_fault_7_training_under_fullgraph_compile(attention):
    def train(model, compiled):
        torch.compiler.reset()
        call = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        torch.manual_seed(0)
        call(IDS, attention_mask=MASK).last_hidden_state[:, :REAL].square()[..., 0].sum().backward()
        return model.embeddings.word_embeddings.weight.grad

    sizes = SMALL | NO_DROPOUT
    eager, compiled = (
        train(make_ours(**sizes, attn_implementation=attention).train(), compiled) for compiled in (False, True)
    )
    assert largest_difference(eager, compiled) <= 1e-5 * (1 + eager.abs().max().item())


def test_fault_7_transformers_does_not_train_under_fullgraph_compile():
    torch.compiler.reset()
    _, other = make_pair(**SMALL, **NO_DROPOUT)
    call = torch.compile(other.train(), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"(?i)unsupported|graph break|autograd"):
        call(IDS).last_hidden_state.sum().backward()


def test_fault_8_only_the_eager_attention():
    with pytest.raises(ValueError, match="does not support"):
        theirs.YosoModel(theirs.YosoConfig(**SMALL, attn_implementation="sdpa"))
    model = make_ours(**(SMALL | {"num_hidden_layers": 1}), attn_implementation="sdpa")
    layer = model.encoder.layer[0].attention.self
    contexts = []
    layer.register_forward_hook(lambda _module, _inputs, output: contexts.append(output[0]))
    hidden = model(SHORT, output_hidden_states=True).hidden_states[0]
    query, key, value = (p(hidden).view(2, REAL, 4, 8).transpose(1, 2) for p in (layer.query, layer.key, layer.value))
    expected = (query @ key.transpose(-1, -2) / 8**0.5).softmax(-1) @ value
    assert largest_difference(contexts[0], expected.transpose(1, 2).flatten(-2)) < 1e-5


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_fault_8_attention_dropout_has_no_effect(attention):
    sizes = {**SMALL, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.5}
    mine, other = make_ours(**sizes, attn_implementation=attention).train(), make_pair(**sizes)[1].train()
    assert torch.equal(other(IDS).last_hidden_state, other(IDS).last_hidden_state)
    assert largest_difference(mine(IDS).last_hidden_state, mine(IDS).last_hidden_state) > 1e-2
    mine.eval()
    assert torch.equal(mine(IDS).last_hidden_state, mine(IDS).last_hidden_state)


def test_fault_8_where_dropout_cannot_act_the_log_says_so(caplog):
    model = make_ours(**SMALL, attention_probs_dropout_prob=0.37).train()
    logger.addHandler(caplog.handler)
    try:
        model(IDS)
    finally:
        logger.removeHandler(caplog.handler)
    assert "attention dropout (0.37) has no effect" in caplog.text


def test_fault_8_too_long_a_sequence():
    ids = tokens(1, 41, vocab_size=60)
    mine, other = make_pair(**SMALL)
    with pytest.raises(ValueError, match=r"sequence length 41 exceeds max_position_embeddings \(40\).*truncate"):
        mine(ids)
    with pytest.raises((RuntimeError, IndexError)) as opaque:
        other(ids)
    assert "max_position_embeddings" not in str(opaque.value)
