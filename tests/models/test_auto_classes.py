"""transformers' Auto classes and pipelines on YOSO checkpoints, and what a checkpoint says of itself."""

import importlib
import json
import logging

import pytest
import transformers
from model_pairs import HEADS, SMALL, largest_difference, make_yoso, tokens
from transformers import dynamic_module_utils
from transformers.models import yoso as transformers_yoso

import yoso
from yoso.models import checkpoint

IDS = tokens(1, 12, vocab_size=60)


def auto_class(head):
    return getattr(transformers, f"Auto{head}" if head == "Model" else f"AutoModel{head}")


@pytest.fixture
def registered():
    yoso.register()
    yoso.register()
    yield
    yoso.unregister()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sequence classifier with sampled attention, and a tokenizer."""
    folder = tmp_path_factory.mktemp("checkpoint")
    make_yoso("ForSequenceClassification", **SMALL, use_expectation=False).save_pretrained(folder)
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "<pad>": 1, "you": 2, "only": 3, "sample": 4}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("head", HEADS)
def test_auto_classes_load_every_model_after_register(registered, head, tmp_path):
    model = make_yoso(head, **SMALL)
    model.save_pretrained(tmp_path)
    loaded = auto_class(head).from_pretrained(tmp_path).eval()
    assert type(loaded) is type(model)
    arguments = IDS[None] if head == "ForMultipleChoice" else IDS
    assert largest_difference(loaded(arguments)[0], model(arguments)[0]) < 1e-5


def test_register_holds_for_checkpoints_of_transformers_and_leaves_its_own_classes(registered, tmp_path):
    transformers_yoso.YosoModel(transformers_yoso.YosoConfig(**SMALL)).save_pretrained(tmp_path)
    assert type(transformers.AutoConfig.from_pretrained(tmp_path)) is yoso.YosoConfig
    assert type(transformers.AutoModel.from_pretrained(tmp_path)) is yoso.YosoModel
    assert type(transformers_yoso.YosoModel.from_pretrained(tmp_path)) is transformers_yoso.YosoModel
    config = transformers_yoso.YosoConfig(**SMALL)
    assert type(transformers.AutoModel.from_config(config)) is transformers_yoso.YosoModel


def test_a_pipeline_loads_a_folder_after_register(registered, folder):
    classify = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    assert type(classify.model) is yoso.YosoForSequenceClassification
    assert 0 <= classify("you only sample")[0]["score"] <= 1


def test_without_register_the_auto_classes_are_those_of_transformers(registered, folder):
    yoso.unregister()
    loaded = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    assert type(loaded) is transformers_yoso.YosoForSequenceClassification


@pytest.mark.parametrize("head", HEADS)
def test_auto_classes_build_models_of_yosos_configuration_without_register(head):
    assert type(auto_class(head).from_config(yoso.YosoConfig(**SMALL))) is getattr(yoso, f"Yoso{head}")


def test_a_checkpoint_says_what_loads_it_and_which_attention_it_has(folder):
    fields = json.loads((folder / "config.json").read_text())
    assert "yoso.register()" in fields["requires"]
    assert "yoso-harness" in fields["requires"]
    assert fields["saved_with_attention"] == "yoso"
    assert "auto_map" not in fields


def test_trust_remote_code_loads_a_checkpoint_that_was_saved_for_it(tmp_path, monkeypatch):
    monkeypatch.setattr(yoso.YosoConfig, "_saves_code", False)
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "cache"))
    yoso.YosoForSequenceClassification.register_for_auto_class("AutoModelForSequenceClassification")
    model = make_yoso("ForSequenceClassification", **SMALL)
    model.save_pretrained(tmp_path / "saved")
    for turn in ("saved", "again"):
        importlib.invalidate_caches()
        loaded = transformers.AutoModelForSequenceClassification.from_pretrained(
            tmp_path / turn, trust_remote_code=True
        )
        assert type(loaded) is yoso.YosoForSequenceClassification
        assert largest_difference(loaded.eval()(IDS).logits, model(IDS).logits) < 1e-5
        loaded.save_pretrained(tmp_path / "again")


def warnings_of(caplog, load, *args, **kwargs):
    caplog.clear()
    with caplog.at_level(logging.WARNING, logger="yoso"):
        model = load(*args, **kwargs)
    return model, [record.getMessage() for record in caplog.records if record.name.startswith("yoso")]


def test_softmax_on_the_weights_of_yoso_is_a_warning_that_says_what_changes(folder, caplog):
    load = yoso.YosoForSequenceClassification.from_pretrained
    (_, report), (warning,) = warnings_of(caplog, load, folder, attn_implementation="sdpa", output_loading_info=True)
    assert not report["missing_keys"]
    for words in ("'yoso' (YOSO)", "'sdpa' (softmax attention)", "another function", "attn_implementation='yoso'"):
        assert words in warning
    for same in (None, "yoso", "yoso_e", "eager"):
        assert warnings_of(caplog, load, folder, attn_implementation=same)[1] == []


def test_a_change_of_the_attention_of_a_loaded_model_warns_as_well(folder, caplog):
    model = yoso.YosoForSequenceClassification.from_pretrained(folder)
    assert len(warnings_of(caplog, model.set_attn_implementation, "sdpa")[1]) == 1
    assert warnings_of(caplog, model.set_attn_implementation, "sdpa")[1] == []


def test_the_weights_of_another_attention_warn_where_they_run_as_yoso(tmp_path, caplog):
    model = make_yoso(**SMALL, attn_implementation="sdpa")
    model.save_pretrained(tmp_path)
    loaded, (warning,) = warnings_of(caplog, yoso.YosoModel.from_pretrained, tmp_path)
    assert "'sdpa' (softmax attention)" in warning
    assert "'yoso_e' (YOSO)" in warning
    loaded, warnings = warnings_of(caplog, yoso.YosoModel.from_pretrained, tmp_path, attn_implementation="sdpa")
    assert warnings == []
    assert largest_difference(loaded(IDS).last_hidden_state, model(IDS).last_hidden_state) == 0


def test_a_checkpoint_of_transformers_counts_as_trained_with_yoso(tmp_path, caplog):
    transformers_yoso.YosoModel(transformers_yoso.YosoConfig(**SMALL)).save_pretrained(tmp_path)
    assert warnings_of(caplog, yoso.YosoModel.from_pretrained, tmp_path)[1] == []
    (warning,) = warnings_of(caplog, yoso.YosoModel.from_pretrained, tmp_path, attn_implementation="sdpa")[1]
    assert "'yoso_e' (YOSO)" in warning


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("yoso", "yoso_e", False),
        ("sdpa", "flash_attention_2", False),
        ("linear", "linear", False),
        ("linear", "yoso_e", True),
        ("sdpa", "linear", True),
        ("eager", "flex_attention", True),
    ],
)
def test_attentions_of_one_function_replace_one_another_silently(before, after, changes):
    assert (checkpoint.what_another_attention_changes(before, after) is not None) == changes
