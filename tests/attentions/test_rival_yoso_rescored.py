"""The rescored estimator as a knob of the attention ``yoso``: verified, priced, and refused where it cannot run."""

import pytest

from harness.core import registry
from harness.core.spec import OperationSpec
from harness.measure import inputs, verify

PLUGIN = registry.get("yoso")


def spec_of(**fields):
    knobs = {"estimator": "rescored", "num_hash": 8} | fields.pop("knobs", {})
    return OperationSpec(attention="yoso", **({"seq_len": 100, "heads": 2, "head_dim": 16} | fields), knobs=knobs)


@pytest.mark.parametrize(
    ("knobs", "padding"),
    [
        ({}, 0.0),
        ({"shared_keys": 9}, 0.3),
        ({"rescore_floor": 0.0, "rescore_rest": False}, 0.3),
        ({"norm_floor": 0.1}, 0.3),
        ({"normalization": "sum", "norm_floor": 0.1}, 0.3),
    ],
)
def test_output_and_gradients_are_verified_against_the_definition(knobs, padding):
    spec = spec_of(knobs=knobs, padding=padding, mode="forward_backward")
    checks = verify.check(PLUGIN, spec, PLUGIN.build(spec), inputs.make(spec))
    assert checks
    assert [check for check in checks if not check.passed] == []


def test_the_oracle_notices_another_estimator():
    spec = spec_of(knobs={"shared_keys": 9})
    other = spec_of(knobs={"shared_keys": 9, "rescore_floor": 1.0})
    checks = verify.check(PLUGIN, spec, PLUGIN.build(other), inputs.make(spec))
    assert [check for check in checks if not check.passed]


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ({"estimator": "exact"}, "estimator must be one of"),
        ({"shared_keys": 101}, "shared_keys must be at most the number of keys, 100"),
        ({"shared_keys": -1}, "shared_keys must be at least 0"),
        ({"rescore_floor": -0.5}, "rescore_floor must be a number from 0 to 1"),
    ],
)
def test_bad_knobs_are_reasons(knobs, reason):
    (message,) = PLUGIN.unsupported(spec_of(knobs=knobs))
    assert reason in message


def test_the_default_number_of_shared_keys_fits_a_short_sequence():
    assert PLUGIN.unsupported(spec_of(seq_len=10)) == []


def test_the_cost_grows_with_the_shared_keys_and_with_the_backward_pass():
    few, many = (PLUGIN.cost(spec_of(knobs={"shared_keys": count})) for count in (8, 80))
    both = PLUGIN.cost(spec_of(knobs={"shared_keys": 8}, mode="forward_backward"))
    for ceiling in ("vector float32", "cache read"):
        assert few[ceiling] < many[ceiling]
        assert few[ceiling] < both[ceiling]
