"""The encoder: equal to that of transformers, with its attentions, checkpoints and errors."""

import json

import pytest
import torch
from model_pairs import NO_DROPOUT, SMALL, largest_difference, make_pair, make_yoso, random_sizes, tokens
from transformers.models import yoso as transformers_yoso

import yoso

LENGTHS = (1, 7, 18, 40)


@pytest.mark.parametrize("seed", range(6))
def test_outputs_and_hidden_states_equal_transformers(seed):
    sizes = random_sizes(seed)
    yoso_model, transformers_model = make_pair(seed=seed, **sizes)
    ids = tokens(2, LENGTHS[seed % 4], vocab_size=sizes["vocab_size"], seed=seed)
    types = ids % sizes["type_vocab_size"]
    with torch.no_grad():
        a = yoso_model(ids, token_type_ids=types, output_hidden_states=True)
        b = transformers_model(ids, token_type_ids=types, output_hidden_states=True)
    assert largest_difference(a.last_hidden_state, b.last_hidden_state) < 1e-5
    assert len(a.hidden_states) == sizes["num_hidden_layers"] + 1
    for x, y in zip(a.hidden_states, b.hidden_states, strict=True):
        assert largest_difference(x, y) < 1e-5


@pytest.mark.parametrize("conv_window", [None, 5])
def test_gradients_equal_transformers(conv_window):
    yoso_model, transformers_model = make_pair(**SMALL, **NO_DROPOUT, conv_window=conv_window)
    ids = tokens(2, 20, vocab_size=60)
    weight = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(1))
    for model in (yoso_model, transformers_model):
        model.train()
        (model(ids).last_hidden_state * weight).mean().backward()
    for (name, a), b in zip(yoso_model.named_parameters(), transformers_model.parameters(), strict=True):
        assert largest_difference(a.grad, b.grad) <= 1e-5 * b.grad.abs().max().item() + 1e-7, name


def test_the_base_model_has_the_keys_and_parameters_of_transformers():
    with torch.device("meta"):
        yoso_model, transformers_model = (
            yoso.YosoModel(yoso.YosoConfig()),
            transformers_yoso.YosoModel(transformers_yoso.YosoConfig()),
        )
    assert sum(parameter.numel() for parameter in yoso_model.parameters()) == 126_807_552
    assert len(yoso_model.state_dict()) == 197
    assert {k: v.shape for k, v in yoso_model.state_dict().items()} == {
        k: v.shape for k, v in transformers_model.state_dict().items()
    }


def test_inputs_embeds_can_replace_input_ids_in_the_encoder():
    model = make_yoso(**SMALL)
    ids = tokens(2, 9, vocab_size=60)
    embeds = model.get_input_embeddings()(ids)
    assert torch.equal(model(ids).last_hidden_state, model(inputs_embeds=embeds).last_hidden_state)


def test_position_ids_override_the_default():
    model = make_yoso(**SMALL)
    ids = tokens(2, 9, vocab_size=60)
    default = model(ids).last_hidden_state
    assert torch.equal(default, model(ids, position_ids=torch.arange(2, 11)[None]).last_hidden_state)
    assert largest_difference(default, model(ids, position_ids=torch.arange(3, 12)[None]).last_hidden_state) > 1e-2


def test_return_dict_false_gives_the_tuple_of_transformers_in_the_encoder():
    yoso_model, transformers_model = make_pair(**SMALL)
    ids = tokens(1, 8, vocab_size=60)
    a, b = (m(ids, output_hidden_states=True, return_dict=False) for m in (yoso_model, transformers_model))
    assert isinstance(a, tuple)
    assert len(a) == len(b) == 2
    assert len(a[1]) == len(b[1]) == 3


def test_the_default_attention_follows_use_expectation():
    assert make_yoso(**SMALL).config._attn_implementation == "yoso_e"
    assert make_yoso(**SMALL, use_expectation=False).config._attn_implementation == "yoso"
    assert make_yoso(**SMALL, use_expectation=False, attn_implementation="sdpa").config._attn_implementation == "sdpa"


def test_the_attention_of_a_model_can_be_changed():
    model = make_yoso(**SMALL)
    ids = tokens(1, 12, vocab_size=60)
    expectation = model(ids).last_hidden_state
    model.set_attn_implementation("eager")
    assert largest_difference(model(ids).last_hidden_state, expectation) < 1e-5
    model.set_attn_implementation("sdpa")
    assert largest_difference(model(ids).last_hidden_state, expectation) > 1e-2


NORMALIZATIONS = pytest.mark.parametrize(
    "fields", [{"norm_floor": 0.5}, {"normalization": "sum"}, {"normalization": "sum", "norm_floor": 0.1}], ids=str
)


@NORMALIZATIONS
def test_every_normalization_is_that_of_the_eager_attention_too(fields):
    model, ids = make_yoso(**SMALL, **fields), tokens(2, 12, vocab_size=60)
    mask = torch.arange(12) < torch.tensor([[12], [7]])
    expectation = model(ids, attention_mask=mask).last_hidden_state
    assert largest_difference(make_yoso(**SMALL)(ids, attention_mask=mask).last_hidden_state, expectation) > 1e-2
    model.set_attn_implementation("eager")
    assert largest_difference(model(ids, attention_mask=mask).last_hidden_state[mask], expectation[mask]) < 1e-5


@NORMALIZATIONS
@pytest.mark.parametrize("attention", ["yoso_e", "yoso", "eager"])
def test_a_training_step_with_every_normalization_lowers_the_loss(fields, attention):
    ids = tokens(2, 12, vocab_size=60)
    torch.manual_seed(0)
    config = yoso.YosoConfig(**SMALL, **NO_DROPOUT, **fields, attn_implementation=attention)
    model = yoso.YosoForMaskedLM(config).train()
    optimizer, losses = torch.optim.SGD(model.parameters(), lr=0.1), []
    for _ in range(2):
        torch.manual_seed(0)
        loss = model(ids, labels=ids).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        gradients = [parameter.grad for parameter in model.yoso.encoder.parameters()]
        assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients[:6])
        optimizer.step()
    assert losses[1] < losses[0]


def test_a_checkpoint_keeps_its_normalization_and_one_without_it_has_the_default(tmp_path):
    ids = tokens(2, 12, vocab_size=60)
    for fields in ({"normalization": "sum", "norm_floor": 0.1}, {}):
        model = make_yoso(**SMALL, **fields)
        model.save_pretrained(tmp_path)
        path = tmp_path / "config.json"
        saved = json.loads(path.read_text())
        if not fields:
            saved = {name: value for name, value in saved.items() if name not in ("normalization", "norm_floor")}
        path.write_text(json.dumps(saved))
        loaded = yoso.YosoModel.from_pretrained(tmp_path)
        assert torch.equal(loaded(ids).last_hidden_state, model(ids).last_hidden_state)


def test_an_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="no_such_attention"):
        make_yoso(**SMALL, attn_implementation="no_such_attention")


def test_sampling_estimates_the_expectation():
    expectation = make_yoso(**SMALL)
    ids = tokens(1, 24, vocab_size=60)
    truth = expectation(ids).last_hidden_state
    errors = []
    for num_hash in (32, 2048):
        model = make_yoso(**SMALL, use_expectation=False, num_hash=num_hash)
        torch.manual_seed(0)
        errors.append(((model(ids).last_hidden_state - truth).norm() / truth.norm()).item())
    assert errors[1] < 0.1
    assert errors[1] < errors[0] / 3


def test_the_same_seed_gives_the_same_sampled_output():
    model = make_yoso(**SMALL, use_expectation=False)
    ids = tokens(1, 24, vocab_size=60)
    outputs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outputs.append(model(ids).last_hidden_state)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("attention", ["yoso_e", "yoso", "eager", "sdpa"])
def test_gradient_checkpointing_changes_no_gradient(attention):
    ids = tokens(2, 12, vocab_size=60)
    grads = []
    for checkpointing in (False, True):
        model = make_yoso(**SMALL, attn_implementation=attention, attention_probs_dropout_prob=0.0).train()
        if checkpointing:
            # transformers 5.2x renamed the method; older versions have the second name.
            enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
            enable()
            assert all(layer.gradient_checkpointing for layer in model.encoder.layer)
        torch.manual_seed(3)
        model(ids).last_hidden_state[..., 0].sum().backward()
        grads.append(model.embeddings.word_embeddings.weight.grad)
    assert torch.equal(*grads)
    assert grads[0].abs().max() > 0


def test_checkpoints_load_in_both_directions(tmp_path):
    yoso_model, transformers_model = make_pair(**SMALL, conv_window=3)
    ids = tokens(1, 10, vocab_size=60)
    expected = transformers_model(ids).last_hidden_state
    transformers_model.save_pretrained(tmp_path / "transformers")
    yoso_model.save_pretrained(tmp_path / "yoso")
    loaded = yoso.YosoModel.from_pretrained(tmp_path / "transformers")
    assert largest_difference(loaded(ids).last_hidden_state, expected) < 1e-5
    back = transformers_yoso.YosoModel.from_pretrained(tmp_path / "yoso")
    assert largest_difference(back(ids).last_hidden_state, expected) == 0


def test_an_old_checkpoint_with_position_buffers_loads_without_unexpected_keys(tmp_path):
    model = make_yoso(**SMALL)
    model.config.save_pretrained(tmp_path)
    state = dict(model.state_dict())
    state["embeddings.position_ids"] = torch.arange(40)[None] + 2
    torch.save(state, tmp_path / "pytorch_model.bin")
    loaded, report = yoso.YosoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not report["unexpected_keys"]
    assert not report["missing_keys"]
    ids = tokens(1, 10, vocab_size=60)
    assert torch.equal(loaded(ids).last_hidden_state, model(ids).last_hidden_state)


def test_a_bfloat16_model_runs():
    model = make_yoso(**SMALL, conv_window=3).to(torch.bfloat16)
    assert model(tokens(1, 12, vocab_size=60)).last_hidden_state.dtype == torch.bfloat16


IDS = tokens(2, 6, vocab_size=60)
BAD_CALLS = {
    "neither": ({}, ValueError, "exactly one of input_ids and inputs_embeds, got neither"),
    "both": ({"input_ids": IDS, "inputs_embeds": torch.zeros(2, 6, 32)}, ValueError, "got both"),
    "one dimension": ({"input_ids": IDS[0]}, ValueError, r"input_ids: expected \[batch, length\], got \[6\]"),
    "width": ({"inputs_embeds": torch.zeros(2, 6, 31)}, ValueError, r"inputs_embeds: expected \[batch, length, 32\]"),
    "mask shape": ({"input_ids": IDS, "attention_mask": torch.ones(2, 5)}, ValueError, r"\[2, 6\].*got \[2, 5\]"),
    "pair mask": ({"input_ids": IDS, "attention_mask": torch.ones(2, 1, 6, 6)}, ValueError, "pairs"),
    "mask dtype": ({"input_ids": IDS, "attention_mask": torch.ones(2, 6) * 1j}, TypeError, "attention_mask.*complex"),
    "additive mask": ({"input_ids": IDS, "attention_mask": torch.ones(2, 6) * -1e4}, ValueError, "only 0 .* and 1"),
    "types": ({"input_ids": IDS, "token_type_ids": IDS[:1]}, ValueError, r"token_type_ids: expected \[2, 6\]"),
    "positions": ({"input_ids": IDS, "position_ids": IDS[:, :3]}, ValueError, r"position_ids: expected \[2, 6\]"),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_bad_calls_name_the_argument(case):
    arguments, error, message = BAD_CALLS[case]
    with pytest.raises(error, match=message):
        make_yoso(**SMALL)(**arguments)


def test_the_configuration_of_transformers_is_refused():
    with pytest.raises(TypeError, match=r"expected a yoso.YosoConfig.*from_dict"):
        yoso.YosoModel(transformers_yoso.YosoConfig(**SMALL))


def test_every_public_name_of_the_package_loads_and_an_unknown_one_is_an_error():
    for name in yoso.__all__:
        assert getattr(yoso, name) is not None
    with pytest.raises(AttributeError, match="YosoModel"):
        _ = yoso.YosoModle
