"""Attentions in the architectures of transformers: loaded by name, trained, padded, saved and loaded again."""

import subprocess
import sys

import pytest
import torch
import transformers
from model_pairs import HEADS, NO_DROPOUT, SMALL, largest_difference, randomise, tokens
from safetensors.torch import load_model
from transformers import AutoConfig, AutoModel

import yoso
from harness.models import transformers_seam

LENGTH, REAL = 20, 13
IDS = tokens(2, LENGTH, vocab_size=60)
MASK = (torch.arange(LENGTH) < REAL).long().expand(2, -1)
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
VIT = {name: value for name, value in SMALL.items() if name not in ("vocab_size", "max_position_embeddings")}
CONFIGURATIONS = {
    "bert": lambda **more: transformers.BertConfig(**SMALL, **NO_DROPOUT, **more),
    "roberta": lambda **more: transformers.RobertaConfig(**SMALL, **NO_DROPOUT, **more),
    "modernbert": lambda **more: transformers.ModernBertConfig(**SMALL, **SPECIAL, **more),
    "vit": lambda **more: transformers.ViTConfig(**VIT, **NO_DROPOUT, image_size=16, patch_size=4, **more),
    "distilbert": lambda **more: transformers.DistilBertConfig(
        vocab_size=60, dim=32, n_layers=2, n_heads=4, hidden_dim=48, max_position_embeddings=40, dropout=0.0,
        attention_dropout=0.0, **more,
    ),
    "electra": lambda **more: transformers.ElectraConfig(**SMALL, **NO_DROPOUT, **more),
}  # fmt: skip
ATTENTIONS = ("softmax", "linear", "yoso", "yoso_e", "local_window", "nystromformer", "performer_softmax", "bigbird")
KNOBS = {
    "window": 3,
    "num_landmarks": 4,
    "num_hash": 8,
    "hash_code_len": 4,
    "block": 2,
    "random_blocks": 0,
    "global_blocks": 1,
}
WEIGHTED = {
    "linformer": {"projected_length": 6},
    "nystromformer": {"num_landmarks": 4, "conv_kernel": 5},
    "yoso_conv": {"conv_window": 5},
}


def make(architecture, **more):
    """A small model with large random weights, so that the attention has a large effect on the output."""
    model = AutoModel.from_config(CONFIGURATIONS[architecture](**more)).eval()
    randomise(model, 0)
    return model


def inputs(model, masked=False):
    if model.main_input_name == "pixel_values":
        return {"pixel_values": IMAGES}
    return {"input_ids": IDS} | ({"attention_mask": MASK} if masked else {})


def output(model, arguments):
    torch.manual_seed(0)
    return model(**arguments)[0]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One saved model per architecture, without an attention; its configuration has the knobs of the attentions."""
    transformers_seam.register()
    saved = {}
    for architecture in CONFIGURATIONS:
        saved[architecture] = tmp_path_factory.mktemp(architecture)
        make(architecture, **KNOBS).save_pretrained(saved[architecture])
    return saved


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_loaded_by_name_trained_saved_and_loaded_again(folders, tmp_path, architecture, attention):
    model = AutoModel.from_pretrained(folders[architecture], attn_implementation=attention)
    arguments = inputs(model, masked=True)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    output(model, arguments).square().mean().backward()
    gradients = [p.grad for name, p in model.named_parameters() if ".layer" in name and name.endswith("weight")]
    assert all(gradient.isfinite().all() and gradient.norm() > 0 for gradient in gradients)
    optimizer.step()
    model.eval().save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path, attn_implementation=attention).eval()
    with torch.no_grad():
        assert torch.equal(output(again, arguments), output(model, arguments))
        softmax = AutoModel.from_pretrained(tmp_path, attn_implementation="sdpa").eval()
        difference = largest_difference(output(again, arguments), output(softmax, arguments))
    # A larger difference shows that an attention other than softmax really ran.
    assert (difference < 1e-3) == (attention == "softmax")


@pytest.mark.parametrize("architecture", [name for name in CONFIGURATIONS if name != "vit"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_padding_does_not_change_the_outputs_of_real_tokens_in_any_architecture(folders, architecture, attention):
    model = AutoModel.from_pretrained(folders[architecture], attn_implementation=attention).eval()
    changed_at_padding = torch.where(MASK == 1, IDS, 7)
    with torch.no_grad():
        before = output(model, inputs(model, masked=True))[:, :REAL]
        after = output(model, {"input_ids": changed_at_padding, "attention_mask": MASK})[:, :REAL]
        unmasked = output(model, inputs(model))[:, :REAL]
    assert largest_difference(before, after) <= 1e-5 * before.abs().max()
    assert largest_difference(before, unmasked) > 1e-3


def saved_and_loaded(model, attention, folder):
    """Save and load as docs/transformers.md does; before loading, the new model has different weights."""
    model.save_pretrained(folder, save_original_format=False)
    again = AutoModel.from_config(AutoConfig.from_pretrained(folder)).eval()
    transformers_seam.attach(again, attention, seq_len=32)
    assert load_model(again, folder / "model.safetensors") == (set(), [])
    return again


@pytest.mark.parametrize("architecture", CONFIGURATIONS)
@pytest.mark.parametrize("attention", WEIGHTED)
def test_weights_of_an_attention_are_trained_saved_and_loaded(tmp_path, architecture, attention):
    model = make(architecture, **WEIGHTED[attention])
    transformers_seam.attach(model, attention, seq_len=32)
    weights = {name: p for name, p in model.named_parameters() if f".{attention}." in name}
    assert len(weights) >= SMALL["num_hidden_layers"]
    assert not torch.equal(*list(weights.values())[:: len(weights) // 2])  # the layers have different weights
    arguments = inputs(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = {name: p.detach().clone() for name, p in weights.items()}
    output(model, arguments).square().mean().backward()
    optimizer.step()
    assert all(not torch.equal(p, before[name]) for name, p in weights.items())
    again = saved_and_loaded(model, attention, tmp_path)
    with torch.no_grad():
        assert torch.equal(output(again, arguments), output(model, arguments))


def test_a_weight_with_two_names_is_saved_once(tmp_path):
    model = make("bert", projected_length=6, sharing="key_value")
    transformers_seam.attach(model, "linformer", seq_len=32)
    again = saved_and_loaded(model, "linformer", tmp_path)
    with torch.no_grad():
        assert torch.equal(output(again, inputs(again)), output(model, inputs(model)))


@pytest.mark.parametrize("head", [head for head in HEADS if head != "Model"])
@pytest.mark.parametrize("attention", ["linear", "local_window", "linformer", "yoso_conv"])
def test_every_task_model_runs_with_any_attention(tmp_path, head, attention):
    transformers_seam.register()
    family = getattr(yoso, f"Yoso{head}")
    weighted = attention in WEIGHTED
    named = {} if weighted else {"attn_implementation": attention}
    model = family(yoso.YosoConfig(**SMALL, **NO_DROPOUT, num_labels=2, **named)).eval()
    if weighted:
        transformers_seam.attach(model, attention, seq_len=40)
    choices = 2 if head == "ForMultipleChoice" else None
    arguments = {"input_ids": tokens(2, LENGTH, vocab_size=60, choices=choices)}
    output(model, arguments).square().mean().backward()
    assert all(p.grad is not None for name, p in model.named_parameters() if ".layer." in name)
    model.save_pretrained(tmp_path)
    again = family.from_pretrained(tmp_path, **named).eval()
    if weighted:
        transformers_seam.attach(again, attention, seq_len=40)
        load_model(again, tmp_path / "model.safetensors")
    with torch.no_grad():
        assert torch.equal(output(again, arguments), output(model, arguments))


def test_a_longer_sequence_than_the_weights_were_made_for_is_refused():
    model = make("bert")
    transformers_seam.attach(model, "linformer", seq_len=8)
    with pytest.raises(ValueError, match="up to 8 tokens, got 20"):
        output(model, inputs(model))


def test_missing_weights_of_an_attention_are_an_error_that_names_attach():
    model = make("bert")
    transformers_seam.attach(model, "linformer")
    with pytest.raises(ValueError, match=r"'linformer' has weights of its own.*attach\(model, 'linformer', seq_len="):
        output(model, inputs(model))


@pytest.mark.parametrize(
    ("attention", "seq_len", "words"),
    [
        ("linear", 32, "'linear' has no weights of its own; leave seq_len=32 out"),
        ("linformer", 0, "seq_len"),
    ],
)
def test_a_seq_len_that_cannot_be_used_is_refused(attention, seq_len, words):
    with pytest.raises(ValueError, match=words):
        transformers_seam.attach(make("bert"), attention, seq_len=seq_len)


def test_a_model_that_does_not_look_up_its_attention_is_refused():
    model = transformers.MPNetModel(transformers.MPNetConfig(**SMALL), add_pooling_layer=False)
    with pytest.raises(ValueError, match="MPNetModel has no attention layer that looks its attention up"):
        transformers_seam.attach(model, "linformer", seq_len=32)


@pytest.mark.parametrize("attention", ["linear", "yoso_e"])
def test_a_causal_model_is_refused(attention):
    model = transformers.GPT2Model(
        transformers.GPT2Config(vocab_size=60, n_positions=40, n_embd=32, n_layer=1, n_head=4)
    )
    transformers_seam.attach(model, attention)
    with pytest.raises(ValueError, match=rf"'{attention}' is bidirectional, but GPT2Attention is causal"):
        model.eval()(IDS)


def test_another_scaling_is_refused():
    model = make("bert")
    transformers_seam.attach(model, "softmax")
    model.encoder.layer[1].attention.self.scaling = 0.5
    with pytest.raises(ValueError, match=r"scales by 1/sqrt\(head_dim\) = 0.353553, got scaling 0.5"):
        output(model, inputs(model))


@pytest.mark.parametrize("architecture", ["bert", "modernbert", "vit"])
def test_attention_dropout_is_refused_because_it_would_be_ignored(architecture):
    name = "attention_dropout" if architecture == "modernbert" else "attention_probs_dropout_prob"
    model = make(architecture)
    setattr(model.config, name, 0.1)
    model = type(model)(model.config).train()
    transformers_seam.attach(model, "linear")
    with pytest.raises(ValueError, match=r"'linear' does not support attention dropout, got dropout 0.1"):
        output(model, inputs(model))


def test_a_sliding_window_is_refused_if_it_hides_tokens():
    layers = ["full_attention", "sliding_attention"]
    windowed = make("modernbert", layer_types=layers, local_attention=16)
    wide = make("modernbert", layer_types=layers, local_attention=64)
    hidden, short = {"input_ids": IDS[:, :10]}, {"input_ids": IDS[:, :9]}

    def window_matters(arguments):
        return largest_difference(output(windowed, arguments), output(wide, arguments)) > 1e-3

    with torch.no_grad():
        assert window_matters(hidden)
        assert not window_matters(short)
        expected = output(windowed, short)
        transformers_seam.attach(windowed, "softmax")
        assert largest_difference(output(windowed, short), expected) < 1e-3
        with pytest.raises(ValueError, match="no sliding_window, but ModernBertAttention asks for one of 9"):
            output(windowed, hidden)


def test_knobs_and_layer_types_are_set_as_docs_transformers_md_says(folders):
    config = AutoConfig.from_pretrained(folders["bert"])
    outputs = []
    for config.window in (1, 2):
        model = AutoModel.from_pretrained(folders["bert"], config=config, attn_implementation="local_window").eval()
        with torch.no_grad():
            outputs.append(output(model, inputs(model)))
    assert largest_difference(*outputs) > 1e-3
    layers = ["full_attention", "full_attention"]
    model = AutoModel.from_pretrained(folders["modernbert"], attn_implementation="linear", layer_types=layers)
    assert model.config.layer_types == layers
    model = make("bert")
    model.config.projected_length = 5
    transformers_seam.attach(model, "linformer", seq_len=32)
    assert model.encoder.layer[0].attention.self.linformer.key_projection.shape == (4, 5, 32)


@pytest.mark.parametrize(
    ("statement", "attention", "known"),
    [
        ("import yoso, harness", "yoso", False),
        ("import yoso.transformers_attention", "yoso", True),
        ("from harness.models import transformers_seam; transformers_seam.register()", "linear", True),
    ],
)
def test_which_import_registers_the_attentions(folders, statement, attention, known):
    """``import yoso`` and ``import harness`` load nothing, so they register nothing; see docs/transformers.md."""
    load = f"AutoModel.from_pretrained({str(folders['bert'])!r}, attn_implementation={attention!r})"
    code = f"{statement}\nfrom transformers import AutoModel\n{load}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode == 0) == known, done.stderr
    if not known:
        assert f'Specified `attn_implementation="{attention}"` is not supported' in done.stderr
