"""Faults of the YOSO in transformers (5.17 to 5.23): each test shows that this model is right and that one is wrong.

If an assertion about the model of transformers fails, transformers has fixed the fault: remove that assertion.
"""

import pytest
import torch
from model_pairs import NO_DROPOUT, SMALL, largest_difference, make_pair, make_yoso, tokens
from torch.func import functional_call, grad
from transformers.models import yoso as transformers_yoso
from transformers.models.yoso import modeling_yoso

import yoso
from yoso.transformers_attention import logger

REAL, PADDED = 17, 29
IDS = tokens(2, PADDED, vocab_size=60)
SHORT = IDS[:, :REAL]
MASK = (torch.arange(PADDED) < REAL).long().expand(2, -1)


def change_by_padding(model, mask):
    """The largest change in the outputs of real tokens when padding is added."""
    with torch.no_grad():
        alone = model(SHORT, attention_mask=torch.ones_like(SHORT)).last_hidden_state
        return largest_difference(model(IDS, attention_mask=mask).last_hidden_state[:, :REAL], alone)


def test_fault_1_padding_is_never_masked():
    yoso_model, transformers_model = make_pair(**SMALL)
    assert change_by_padding(yoso_model, MASK) <= 1e-6
    assert change_by_padding(transformers_model, MASK) > 1e-2
    with torch.no_grad():
        masked, unmasked = (
            transformers_model(IDS, attention_mask=MASK),
            transformers_model(IDS, attention_mask=torch.ones_like(IDS)),
        )
    assert torch.equal(masked.last_hidden_state, unmasked.last_hidden_state)


def test_fault_2_gaussian_hashing_ignores_the_query():
    query, key = torch.randn(2, 1, 50, 16).unbind()
    codes = modeling_yoso.hashing(query, key, 4, 6)
    assert torch.equal(*codes)  # in transformers the query gets the key's codes

    truth = make_yoso(**SMALL)(SHORT).last_hidden_state
    model = make_yoso(**SMALL, use_expectation=False, use_fast_hash=False, num_hash=2048)
    assert model.config.resolved_hash_family == "gaussian"
    assert ((model(SHORT).last_hidden_state - truth).norm() / truth.norm()).item() < 0.1


def test_fault_3_equal_query_and_key_give_nan():
    yoso_model, transformers_model = make_pair(**SMALL)
    for model in (yoso_model, transformers_model):
        for layer in model.encoder.layer:
            layer.attention.self.key.load_state_dict(layer.attention.self.query.state_dict())
    assert not transformers_model(IDS).last_hidden_state.isfinite().all()
    output = yoso_model(IDS).last_hidden_state
    output.square().mean().backward()
    assert output.isfinite().all()
    assert all(parameter.grad.isfinite().all() for parameter in yoso_model.parameters())


def test_fault_4_sampling_needs_cuda():
    yoso_model, transformers_model = make_pair(**SMALL, use_expectation=False)
    assert yoso_model(IDS).last_hidden_state.isfinite().all()
    if modeling_yoso.lsh_cumulation is None:
        with pytest.raises(AttributeError, match="fast_hash"):
            transformers_model(IDS)


def test_fault_5_the_convolution_includes_padding_with_any_mask():
    yoso_model, transformers_model = make_pair(**SMALL, conv_window=5)
    assert change_by_padding(yoso_model, MASK) <= 1e-6
    for mask in (MASK, (1 - MASK) * -10000.0):
        assert change_by_padding(transformers_model, mask) > 1e-2


def test_fault_5_an_even_window_crashes():
    with pytest.raises(ValueError, match="conv_window: expected an odd number"):
        yoso.YosoConfig(**SMALL, conv_window=4)
    transformers_model = transformers_yoso.YosoModel(transformers_yoso.YosoConfig(**SMALL, conv_window=4))
    with pytest.raises(RuntimeError, match="size of tensor"):
        transformers_model(IDS)


@pytest.mark.parametrize("attention", ["yoso_e", "yoso", "eager"])
def test_fault_6_output_attentions_returns_the_context(attention):
    yoso_model = make_yoso(**SMALL, attn_implementation=attention)
    attentions = yoso_model(IDS, attention_mask=MASK, output_attentions=True).attentions
    assert [weights.shape for weights in attentions] == [(2, 4, PADDED, PADDED)] * 2
    for weights in attentions:
        assert weights[:, :, :REAL, :REAL].min() >= 0
        assert weights.max() <= 1
        assert weights[:, :, :REAL, :REAL].max() > 0
        assert weights[..., REAL:].abs().max() == 0
    transformers_model = transformers_yoso.YosoModel(transformers_yoso.YosoConfig(**SMALL))
    assert transformers_model(IDS, output_attentions=True).attentions[0].shape == (2, PADDED, SMALL["hidden_size"])


def test_fault_6_attentions_are_the_weights_that_were_used():
    model = make_yoso(**(SMALL | {"num_hidden_layers": 1}))
    layer = model.encoder.layer[0].attention.self
    contexts = []
    layer.register_forward_hook(lambda _module, _inputs, output: contexts.append(output[0]))
    result = model(SHORT, output_attentions=True, output_hidden_states=True)
    value = layer.value(result.hidden_states[0]).view(2, REAL, 4, 8).transpose(1, 2)
    expected = torch.nn.functional.normalize(result.attentions[0] @ value, dim=-1)
    assert largest_difference(contexts[0], expected.transpose(1, 2).flatten(-2)) < 1e-5


def test_fault_6_output_attentions_of_an_attention_without_weights_is_an_error():
    model = make_yoso(**SMALL, attn_implementation="sdpa")
    with pytest.raises(ValueError, match="output_attentions=True: attention 'sdpa' does not return its weights"):
        model(IDS, output_attentions=True)


def second_derivative(model):
    """The second derivative of a scalar along one direction, by autograd and by differences of the first."""
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
    yoso_model, transformers_model = make_pair(**SMALL)
    yoso_model, transformers_model = yoso_model.double(), transformers_model.double()
    with pytest.raises(NotImplementedError, match="no second derivative"):
        second_derivative(yoso_model)
    by_autograd, by_differences = second_derivative(transformers_model)
    assert abs(by_autograd - by_differences) > 0.01 * abs(by_differences)
    yoso_model.set_attn_implementation("eager")
    by_autograd, by_differences = second_derivative(yoso_model)
    assert by_autograd == pytest.approx(by_differences, rel=1e-4)


def test_fault_7_torch_func_is_an_error():
    yoso_model, transformers_model = make_pair(**SMALL)
    yoso_model.set_attn_implementation("eager")

    def gradient(model):
        weights = dict(model.named_parameters())
        return grad(lambda w: functional_call(model, w, (SHORT,)).last_hidden_state[0].sum())(weights)

    with pytest.raises(RuntimeError, match="functorch"):
        gradient(transformers_model)
    expected = make_yoso(**SMALL, attn_implementation="eager")
    expected(SHORT).last_hidden_state[0].sum().backward()
    for (name, actual), parameter in zip(gradient(yoso_model).items(), expected.parameters(), strict=True):
        assert largest_difference(actual, parameter.grad) <= 1e-5 * (1 + parameter.grad.abs().max().item()), name


@pytest.mark.parametrize("attention", ["yoso_e", "yoso"])
def test_fault_7_a_compiled_full_graph_trains(attention):
    def train(model, compiled):
        torch.compiler.reset()
        call = torch.compile(model, fullgraph=True, backend="aot_eager") if compiled else model
        torch.manual_seed(0)
        call(IDS, attention_mask=MASK).last_hidden_state[:, :REAL].square()[..., 0].sum().backward()
        return model.embeddings.word_embeddings.weight.grad

    sizes = SMALL | NO_DROPOUT
    eager, compiled = (
        train(make_yoso(**sizes, attn_implementation=attention).train(), compiled) for compiled in (False, True)
    )
    assert largest_difference(eager, compiled) <= 1e-5 * (1 + eager.abs().max().item())


def test_fault_7_the_model_of_transformers_does_not_train_in_a_compiled_full_graph():
    torch.compiler.reset()
    _, transformers_model = make_pair(**SMALL, **NO_DROPOUT)
    call = torch.compile(transformers_model.train(), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"(?i)unsupported|graph break|autograd"):
        call(IDS).last_hidden_state.sum().backward()


def test_fault_8_only_the_eager_attention_is_supported():
    with pytest.raises(ValueError, match="does not support"):
        transformers_yoso.YosoModel(transformers_yoso.YosoConfig(**SMALL, attn_implementation="sdpa"))
    model = make_yoso(**(SMALL | {"num_hidden_layers": 1}), attn_implementation="sdpa")
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
    yoso_model, transformers_model = (
        make_yoso(**sizes, attn_implementation=attention).train(),
        make_pair(**sizes)[1].train(),
    )
    assert torch.equal(transformers_model(IDS).last_hidden_state, transformers_model(IDS).last_hidden_state)
    assert largest_difference(yoso_model(IDS).last_hidden_state, yoso_model(IDS).last_hidden_state) > 1e-2
    yoso_model.eval()
    assert torch.equal(yoso_model(IDS).last_hidden_state, yoso_model(IDS).last_hidden_state)


def test_fault_8_the_log_says_where_dropout_has_no_effect(caplog):
    model = make_yoso(**SMALL, attention_probs_dropout_prob=0.37).train()
    logger.addHandler(caplog.handler)
    try:
        model(IDS)
    finally:
        logger.removeHandler(caplog.handler)
    assert "attention dropout (0.37) has no effect" in caplog.text


def test_fault_8_the_error_for_too_long_a_sequence_does_not_say_why():
    ids = tokens(1, 41, vocab_size=60)
    yoso_model, transformers_model = make_pair(**SMALL)
    with pytest.raises(ValueError, match=r"sequence length 41 exceeds max_position_embeddings \(40\).*truncate"):
        yoso_model(ids)
    with pytest.raises((RuntimeError, IndexError)) as opaque:
        transformers_model(ids)
    assert "max_position_embeddings" not in str(opaque.value)


@pytest.mark.parametrize("attention", ["yoso", "yoso_e", "eager", None])
def test_attention_weights_can_be_asked_for_in_the_configuration(attention):
    config = yoso.YosoConfig(**SMALL, attn_implementation=attention)
    config.output_attentions = True
    model = yoso.YosoModel(config).eval()
    assert model.config._attn_implementation == (attention or "yoso_e")
    assert len(model(tokens(1, 8, vocab_size=60)).attentions) == config.num_hidden_layers
