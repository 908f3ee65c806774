"""YOSO with other normalisations than the default: verified, refused where wrong, compared with its expectation."""

import failed_sentences
import pytest

from harness.core import registry
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec
from harness.measure import inputs, quality, verify

NAMES = ("yoso", "yoso_e", "yoso_conv")
KNOBS = ({"norm_floor": 0.1}, {"normalization": "sum"}, {"normalization": "sum", "norm_floor": 0.1})


def make(name, knobs, **changes):
    sizes = {"seq_len": 130, "heads": 2, "batch": 2, "head_dim": 24, "padding": 0.25, "mode": "forward_backward"}
    return OperationSpec(attention=name, knobs=knobs, **(sizes | changes))


def failed(built, spec):
    plugin = registry.get(spec.attention)
    return failed_sentences.of(verify.check(plugin, spec, plugin.build(built), inputs.make(spec)))


@pytest.mark.parametrize("knobs", KNOBS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_it_equals_its_oracle(name, knobs):
    for changes in ({}, {"dtype": "bfloat16"}, {"dtype": "float16"}, {"seq_len": 1}, {"padding": 0.0}):
        spec = make(name, knobs, **changes)
        assert registry.get(name).unsupported(spec) == []
        assert failed(spec, spec) == []


@pytest.mark.parametrize("knobs", KNOBS[:2], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_module_without_the_normalization_of_its_case_is_detected(name, knobs):
    assert failed(make(name, {}), make(name, knobs))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"normalization": "l1"}, "normalization must be one of ('l2', 'sum'), got 'l1'"),
        ({"norm_floor": -0.5}, "norm_floor must be a finite number of at least 0, got -0.5"),
        ({"norm_floor": "small"}, "norm_floor must be a finite number of at least 0, got 'small'"),
        ({"norm_floor": True}, "norm_floor must be a finite number of at least 0, got True"),
    ],
    ids=str,
)
def test_a_wrong_value_is_a_reason(name, knobs, reason):
    for spec in (make(name, knobs), ModelSpec(attention=name, seq_len=64, knobs=knobs)):
        (given,) = registry.get(name).unsupported(spec)
        assert given.startswith(reason)


@pytest.mark.parametrize("knobs", [{"norm_floor": 3.0}, *KNOBS[1:]], ids=str)
def test_the_error_of_sampling_is_that_against_the_expectation_with_the_same_normalization(knobs):
    plugin = registry.get("yoso")
    sizes = {"num_hash": 256, "hash_code_len": 3}
    spec = QualitySpec(attention="yoso", seq_len=64, heads=1, head_dim=16, draws=2, knobs=sizes | knobs)
    measured, checks = quality.errors(plugin, spec, plugin.build(spec), inputs.make(spec))
    assert max(measured.errors["output"]) < 0.2
    assert failed_sentences.of(checks) == []
