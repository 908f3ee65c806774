"""Knobs of every attention read as English."""

import re

import pytest
from test_page_data import of_records, setting_of, timed

from harness.core import registry
from harness.core.spec import OperationSpec, Scalar
from harness.report.model.knob_words import knob_words


def test_the_knobs_of_every_attention_read_as_english() -> None:
    for attention in registry.names():
        knobs = registry.get(attention).knobs(OperationSpec(attention=attention, seq_len=512))
        for name in knobs:
            words = knob_words(name, knobs)
            assert re.fullmatch(r"[a-z0-9][a-z0-9 .,-]*", words), (attention, name, words)
            assert "true" not in words.lower(), (attention, name, words)


@pytest.mark.parametrize(
    ("knobs", "words"),
    [
        ({"num_hash": 1}, "1 hash"),
        ({"num_hash": 4096}, "4,096 hashes"),
        ({"window": 64}, "window of 64"),
        ({"window": 3, "block": 64}, "window of 3 blocks"),
        ({"norm_floor": 0.1}, "norm floor 0.1"),
        ({"estimator": "rescored"}, "rescored estimator"),
        ({"redraw": False}, "features drawn once"),
        ({"conv_kernel": 0}, "no convolution"),
        ({"num_clusters": 8}, "8 clusters"),
        ({"my_knob": True}, "my knob on"),
        ({"_": "x"}, " x"),
    ],
)
def test_one_knob(knobs: dict[str, Scalar], words: str) -> None:
    assert knob_words(next(iter(knobs)), knobs) == words


def test_series_that_differ_in_a_knob_name_it_once_and_in_words() -> None:
    records = [
        timed(name, 512, 1e-3 * (1 + place), spec_knobs=knobs, knobs=knobs)
        for name, several in {
            "local_window": [{"window": 64}, {"window": 128}],
            "yoso": [{"num_hash": 16, "estimator": each} for each in ("collisions", "rescored")],
        }.items()
        for place, knobs in enumerate(several)
    ]
    rows = setting_of(of_records(*records), 512).rows
    assert sorted(row.knob for row in rows) == [
        "16 hashes, collision estimator", "16 hashes, rescored estimator", "window of 128", "window of 64",
    ]  # fmt: skip
