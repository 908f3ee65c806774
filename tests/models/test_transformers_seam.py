"""Attentions by name in models: YOSO in models of other libraries, and the harness's attentions in YOSO and BERT."""

import pytest
import torch
from model_pairs import NO_DROPOUT, SMALL, largest_difference, make_yoso, randomise, tokens
from torch import nn
from transformers import AttentionInterface, BertConfig, BertModel
from transformers.masking_utils import AttentionMaskInterface

from harness.core import registry
from harness.core.plugin import AttentionPlugin
from harness.models import transformers_seam
from yoso import yoso_e, yoso_sampling

IDS = tokens(2, 20, vocab_size=60)
MASK = (torch.arange(20) < 13).long().expand(2, -1)
SOFTMAX = ["softmax", "sdpa_math", "sdpa_flash"]


def make_bert(attention=None, **fields):
    model = BertModel(BertConfig(**SMALL, **fields), add_pooling_layer=False).eval()
    randomise(model, 0)
    if attention:
        transformers_seam.attach(model, attention)
    return model


def output(model, mask=None, seed=0):
    torch.manual_seed(seed)
    with torch.no_grad():
        return model(IDS, attention_mask=mask).last_hidden_state


def test_every_attention_is_registered_and_no_existing_name_is_overwritten():
    before = {name: AttentionInterface()[name] for name in ("sdpa", "yoso", "yoso_e", "flash_attention_2")}
    transformers_seam.register()
    for name in registry.names():
        assert name in AttentionInterface()
        assert name in AttentionMaskInterface()
    assert {name: AttentionInterface()[name] for name in before} == before


@pytest.mark.parametrize("attention", SOFTMAX)
@pytest.mark.parametrize("masked", [False, True])
def test_softmax_attentions_equal_sdpa_in_bert(attention, masked):
    mask = MASK if masked else None
    real = slice(0, 13) if masked else slice(None)
    expected = output(make_bert("sdpa"), mask)[:, real]
    assert largest_difference(output(make_bert(attention), mask)[:, real], expected) < 2e-5


@pytest.mark.parametrize("attention", SOFTMAX)
def test_softmax_attentions_equal_sdpa_in_yoso(attention):
    transformers_seam.register()
    expected = output(make_yoso(**SMALL, attn_implementation="sdpa"))
    assert largest_difference(output(make_yoso(**SMALL, attn_implementation=attention)), expected) < 2e-5


@pytest.mark.parametrize("normalization", [{}, {"norm_floor": 0.5}, {"normalization": "sum"}], ids=str)
@pytest.mark.parametrize("attention", ["yoso", "yoso_e"])
def test_yoso_runs_in_bert_with_the_configurations_parameters(attention, normalization):
    fields = {"num_hash": 8, "hash_code_len": 4, "hash_family": "gaussian"}
    model = make_bert(**fields, **normalization, attn_implementation=attention)
    layer = model.encoder.layer[0].attention.self
    calls = []
    layer.register_forward_hook(lambda _module, args, result: calls.append((args[0], result[0])))
    output(model, MASK)
    hidden, context = calls[0]
    q, k, v = (p(hidden).view(2, 20, 4, 8).transpose(1, 2) for p in (layer.query, layer.key, layer.value))
    torch.manual_seed(0)
    if attention == "yoso_e":
        expected = yoso_e(q, k, v, MASK.bool(), hash_code_len=4, **normalization)
    else:
        expected = yoso_sampling(q, k, v, MASK.bool(), **fields, **normalization)
    assert largest_difference(context, expected.transpose(1, 2).flatten(-2)) < 1e-6


def test_yoso_runs_in_bert_with_the_configurations_estimator():
    """With 64 shared keys by default, of which a sequence of 20 tokens has 20, every weight is exact."""
    fields = {"num_hash": 8, "hash_code_len": 4, "estimator": "rescored"}
    exact = output(make_bert(hash_code_len=4, attn_implementation="yoso_e"), MASK)
    real = MASK.bool()[..., None]
    assert largest_difference(output(make_bert(**fields, attn_implementation="yoso"), MASK) * real, exact * real) < 1e-4
    rough = output(make_bert(**fields, shared_keys=2, attn_implementation="yoso"), MASK)
    assert largest_difference(rough * real, exact * real) > 1e-2


@pytest.mark.parametrize("attention", ["yoso", "yoso_e", "softmax"])
def test_padding_does_not_change_the_outputs_of_real_tokens_in_bert(attention):
    model = make_bert(attention)
    changed_at_padding = torch.where(MASK == 1, IDS, 7)
    torch.manual_seed(0)
    with torch.no_grad():
        changed = model(changed_at_padding, attention_mask=MASK).last_hidden_state
    assert largest_difference(output(model, MASK)[:, :13], changed[:, :13]) <= 1e-6


@pytest.mark.parametrize("attention", ["yoso", "softmax"])
def test_a_decoder_is_refused(attention):
    with pytest.raises(ValueError, match=r"bidirectional.*causal"):
        output(make_bert(attention, is_decoder=True))


@pytest.mark.parametrize("attention", ["yoso_e", "softmax"])
def test_a_mask_that_is_not_a_padding_mask_is_refused(attention):
    with pytest.raises(ValueError, match=r"attention_mask None or bool \[2, 20\]"):
        output(make_bert(attention), torch.ones(2, 1, 20, 20, dtype=torch.bool))


def test_dropout_is_refused_by_an_attention_that_has_none():
    with pytest.raises(ValueError, match=r"does not support attention dropout.*attention_probs_dropout_prob"):
        make_bert("softmax").train()(IDS)
    make_bert("softmax", **NO_DROPOUT).train()(IDS)


def test_an_attention_that_cannot_run_says_why():
    with pytest.raises(ValueError, match=r"'sdpa_cudnn' cannot run here: .*CUDA"):
        output(make_bert("sdpa_cudnn"))


def test_the_error_for_an_unknown_attention_lists_the_known_ones():
    with pytest.raises(registry.RegistryError, match=r"unknown attention 'nope'.*softmax"):
        transformers_seam.attach(make_bert(), "nope")


class Recorded(AttentionPlugin):
    """The mean of the values, with a knob; it records the specs that it was built for."""

    name = "recorded"
    summary = source = "a test"

    def __init__(self, weights=False):
        self.specs = []
        self.weights = weights

    def default_knobs(self, spec):
        return {"window": 3}

    def build(self, spec):
        self.specs.append(spec)
        return Mean(self.weights)

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        raise AssertionError("these tests need no oracle")


class Mean(nn.Module):
    def __init__(self, weights):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1)) if weights else None

    def forward(self, q, k, v, key_padding_mask):
        return v.mean(2, keepdim=True).expand_as(v)


@pytest.fixture
def recorded(request):
    plugin = Recorded(**getattr(request, "param", {}))
    registry.add(plugin)
    yield plugin
    registry.remove("recorded")


def test_an_attention_is_built_once_per_layer_and_again_for_another_call(recorded):
    model = make_bert("recorded", window=9)
    output(model)
    output(model)
    assert len(recorded.specs) == SMALL["num_hidden_layers"]
    output(model, MASK)
    spec = recorded.specs[-1]
    assert (spec.batch, spec.heads, spec.seq_len, spec.head_dim) == (2, 4, 20, 8)
    assert spec.padding == pytest.approx(7 / 20)
    assert (spec.mode, spec.dtype, spec.device, dict(spec.knobs)) == ("forward", "float32", "cpu", {"window": 9})


def test_a_changed_knob_gives_another_module(recorded):
    model = make_bert("recorded", window=9)
    layers = SMALL["num_hidden_layers"]
    for window in (9, 1, True, 1, None):
        model.config.window = window
        output(model)
    assert [spec.knobs.get("window") for spec in recorded.specs[::layers]] == [9, 1, True, None]


@pytest.mark.parametrize("attention", ["local_window", "cosformer"])
def test_a_changed_knob_gives_the_output_of_a_new_model(attention):
    fields = {"window": 20, "epsilon": 0.5}
    model = make_bert(attention, **fields)
    output(model)
    model.config.window, model.config.epsilon = 1, 1e-6
    expected = output(make_bert(attention, **fields | {"window": 1, "epsilon": 1e-6}))
    assert torch.equal(output(model), expected)


@pytest.mark.parametrize("attention", ["softmax", "local_window", "linear", "nystromformer", "yoso", "yoso_e"])
def test_a_first_batch_of_padding_alone_gives_finite_outputs(attention):
    model = make_bert(attention)
    assert torch.isfinite(output(model, torch.zeros_like(MASK))).all()
    some = MASK.clone()
    some[1] = 0
    assert torch.isfinite(output(model, some)).all()


@pytest.mark.parametrize("recorded", [{"weights": True}], indirect=True)
def test_an_attention_with_weights_is_refused_without_attach(recorded):
    with pytest.raises(ValueError, match="'recorded' has weights of its own"):
        output(make_bert("recorded"))
