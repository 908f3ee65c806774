"""The configuration: defaults and files of transformers, and errors for invalid values."""

import json

import pytest
from transformers.models import yoso as transformers_yoso

from yoso import YosoConfig, YosoModel


def test_defaults_are_those_of_transformers():
    fields = YosoConfig().to_dict()
    assert fields.pop("hash_family") is None
    assert (fields.pop("normalization"), fields.pop("norm_floor")) == ("l2", 0.0)
    assert fields.pop("estimator") == "collisions"
    for name in ("shared_keys", "rescore_floor", "rescore_rest"):
        fields.pop(name)
    assert fields == transformers_yoso.YosoConfig().to_dict()


def test_a_configuration_survives_a_dict_and_a_file(tmp_path):
    normalization = {"normalization": "sum", "norm_floor": 0.1}
    config = YosoConfig(
        num_hash=16, estimator="rescored", conv_window=33, hash_family="gaussian", num_labels=7, **normalization
    )
    assert YosoConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    config.save_pretrained(tmp_path)
    loaded = YosoConfig.from_pretrained(tmp_path)
    assert loaded.to_dict() == config.to_dict()
    assert (loaded.normalization, loaded.norm_floor) == ("sum", 0.1)


def test_a_configuration_of_transformers_with_old_fields_loads(tmp_path):
    fields = transformers_yoso.YosoConfig(num_hash=8, use_expectation=False).to_dict()
    fields |= {"position_embedding_type": "absolute", "is_decoder": False, "use_cache": True}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = YosoConfig.from_pretrained(tmp_path)
    assert (config.num_hash, config.use_expectation) == (8, False)
    assert config.position_embedding_type == "absolute"


def test_the_hash_family_follows_use_fast_hash_if_it_is_none():
    assert YosoConfig().resolved_hash_family == "hadamard"
    assert YosoConfig(use_fast_hash=False).resolved_hash_family == "gaussian"
    assert YosoConfig(hash_family="hadamard_authors", use_fast_hash=False).resolved_hash_family == "hadamard_authors"


BAD = [
    ({"conv_window": 4}, "conv_window: expected an odd number.*got 4.*use 3 or 5"),
    ({"conv_window": 0}, "conv_window: expected an integer of at least 1, got 0"),
    ({"is_decoder": True}, "is_decoder: expected False"),
    ({"add_cross_attention": True}, "add_cross_attention: expected False"),
    ({"hash_code_len": 0}, "hash_code_len: expected an integer from 1 to 16, got 0"),
    ({"hash_code_len": 17}, "hash_code_len: .* got 17"),
    ({"num_hash": 0}, "num_hash: expected an integer of at least 1, got 0"),
    ({"num_hash": "8"}, "num_hash: .* got '8'"),
    (
        {"hidden_size": 100, "num_attention_heads": 12},
        r"hidden_size: expected a multiple of num_attention_heads \(12\)",
    ),
    ({"normalization": "layer"}, "normalization must be one of .*got 'layer'"),
    ({"norm_floor": -1.0}, "norm_floor must be a finite number of at least 0, got -1.0"),
    ({"estimator": "sampled"}, "estimator must be one of .*'collisions', 'rescored'.*got 'sampled'"),
    ({"shared_keys": 0}, "shared_keys: expected an integer of at least 1, got 0"),
    ({"rescore_floor": 2}, "rescore_floor must be a number from 0 to 1, got 2"),
    ({"hash_family": "simhash"}, "hash_family: expected one of gaussian, hadamard, hadamard_authors.*'simhash'"),
]


@pytest.mark.parametrize(("fields", "message"), BAD)
def test_bad_values_name_the_field(fields, message):
    with pytest.raises(ValueError, match=message):
        YosoConfig(**fields)


def test_the_model_checks_values_that_were_set_after_construction():
    config = YosoConfig()
    config.conv_window = 2
    with pytest.raises(ValueError, match="conv_window"):
        YosoModel(config)
