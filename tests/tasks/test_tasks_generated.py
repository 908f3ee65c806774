"""Generated and embedded tasks: labels checked independently from the tokens, splits, seeds and lengths."""

from typing import Any

import numpy as np
import pytest
import torch

from harness.core import registry
from harness.tasks import (
    associative_recall,
    distant_label,
    masked_copy,
    multi_query_lookup,
    multi_query_recall,
    needle,
    python_source,
    span_search,
)
from harness.tasks.task import IGNORED, LabelledSequences, Task
from harness.tasks.tokens import CLS, FIRST_BYTE, MASK, PAD, SEPARATOR, encode_bytes

GENERATED = [
    "needle",
    "associative_recall",
    "multi_query_recall",
    "multi_query_lookup",
    "distant_label",
    "masked_copy",
    "span_search",
    "choice_search",
    "python_text",
    "python_retrieval",
]
WITHOUT_FILES = [*GENERATED, "listops", "digits", "pathfinder"]
MIN_SEQ_LEN = {"pathfinder": 576, "digits": 64}


def data(name: str, split: str = "train", examples: int = 60, seq_len: int = 64, seed: int = 0) -> LabelledSequences:
    return registry.get_task(name).dataset(split, examples, max(seq_len, MIN_SEQ_LEN.get(name, 0)), seed)


def rows(examples: LabelledSequences) -> set[bytes]:
    return {ids.numpy().tobytes() for ids in examples.input_ids}


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_every_task_without_files_describes_its_data_and_passes_its_own_check(name):
    task: Task = registry.get_task(name)
    assert isinstance(task, Task)
    assert task.name == name
    assert any(word in task.data for word in ("generated", "embedded"))
    examples = data(name, examples=20)
    task.check(examples, max(64, MIN_SEQ_LEN.get(name, 0)))
    assert len(examples) == 20
    assert 0 < task.chance < 1
    assert task.score(examples.labels, examples.labels) == 1
    assert 0 <= task.majority(examples.labels) <= 1
    for digest in task.sources().values():
        assert len(digest) == 64


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_equal_arguments_give_equal_examples_and_seeds_differ(name):
    one, same, other = data(name, seed=5), data(name, seed=5), data(name, seed=6)
    assert torch.equal(one.input_ids, same.input_ids)
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.input_ids, other.input_ids)


@pytest.mark.parametrize("name", WITHOUT_FILES)
@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)])
def test_train_and_eval_share_no_example_whatever_the_seeds(name, seeds):
    count = 30 if name == "pathfinder" else 300
    train, held_out = data(name, "train", count, seed=seeds[0]), data(name, "eval", count, seed=seeds[1])
    assert len(rows(train)) == count, "an example occurs twice"
    assert len(rows(held_out)) == count, "an example occurs twice"
    assert not rows(train) & rows(held_out)


@pytest.mark.parametrize("name", GENERATED)
@pytest.mark.parametrize("seq_len", [32, 33, 257, 1024])
def test_examples_fill_any_length(name, seq_len):
    examples = data(name, examples=6, seq_len=seq_len)
    assert examples.input_ids.shape[-1] == seq_len
    assert examples.attention_mask.shape == examples.input_ids.shape
    registry.get_task(name).check(examples, seq_len)


@pytest.mark.parametrize("name", WITHOUT_FILES)
def test_a_length_that_is_too_short_is_rejected(name):
    with pytest.raises(ValueError, match=f"{name}: seq_len must be at least .*got 4; use a longer one"):
        registry.get_task(name).dataset("train", 4, 4, 0)


def test_asking_for_more_examples_than_a_task_has_is_an_error():
    class Few(needle.Needle):
        name = "few"
        drawn_at_a_time = 64

        def draw(self, rng: np.random.Generator, *args: Any) -> Any:
            return super().draw(np.random.default_rng(0), *args)

    with pytest.raises(ValueError, match=r"few: only .* of 5000 train examples of seq_len 16 were found"):
        Few().dataset("train", 5000, 16, 0)


def test_the_needle_is_the_only_digit():
    examples = data("needle", examples=200)
    digits = (examples.input_ids >= needle.FIRST_DIGIT) & (examples.input_ids < needle.FIRST_LETTER)
    assert (digits.sum(1) == 1).all()
    assert torch.equal(examples.input_ids[digits].long() - needle.FIRST_DIGIT, examples.labels)
    assert len(set(digits.nonzero()[:, 1].tolist())) > 50, "the needle is always at the same places"


@pytest.mark.parametrize("seq_len", [16, 64, 512])
def test_the_recalled_value_follows_the_key(seq_len):
    examples = data("associative_recall", examples=200, seq_len=seq_len)
    for ids, label in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
        places = [place for place in range(1, seq_len) if ids[place] == ids[0]]
        assert len(places) == 1, "the key must occur once after the first token"
        assert ids[places[0] + 1] - associative_recall.FIRST_VALUE == label
    assert torch.bincount(examples.labels, minlength=8).min() > 5


@pytest.mark.parametrize("seq_len", [16, 100, 512, 2048])
def test_every_query_has_the_value_that_its_key_was_defined_with(seq_len):
    examples = data("multi_query_recall", examples=30, seq_len=seq_len)
    pairs = seq_len // 8
    for ids, labels in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
        keys, values = ids[0 : 2 * pairs : 2], ids[1 : 2 * pairs : 2]
        assert len(set(keys)) == pairs, "a key is defined twice"
        value_of = dict(zip(keys, values, strict=True))
        assert labels[: 2 * pairs] == [IGNORED] * (2 * pairs)
        queried = []
        for token, label in list(zip(ids, labels, strict=True))[2 * pairs :]:
            if label == IGNORED:
                assert token == multi_query_recall.FILLER
            else:
                queried.append(token)
                assert value_of[token] - multi_query_recall.FIRST_VALUE == label
        assert sorted(queried) == sorted(keys), "each key is queried once"


@pytest.mark.parametrize("seq_len", [16, 100, 512, 2048])
def test_every_query_has_the_value_of_the_only_pair_with_its_key(seq_len):
    examples = data("multi_query_lookup", examples=30, seq_len=seq_len)
    first_pair, values = multi_query_lookup.FIRST_PAIR, multi_query_lookup.VALUES
    for ids, labels in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
        pairs = [divmod(token - first_pair, values) for token in ids if token >= first_pair]
        assert len(pairs) == seq_len // 4
        value_of = dict(pairs)
        assert len(value_of) == len(pairs), "a key is in two pairs"
        queried = []
        for token, label in zip(ids, labels, strict=True):
            if label == IGNORED:
                assert token >= first_pair or token == multi_query_lookup.FILLER
            else:
                queried.append(token - multi_query_lookup.FIRST_QUERY)
                assert value_of[queried[-1]] == label
        assert sorted(queried) == sorted(value_of), "each key is queried once"
        assert max(value_of) < 2 * len(pairs)


@pytest.mark.parametrize(("name", "queries"), [("multi_query_recall", 16), ("multi_query_lookup", 32)])
def test_the_baselines_of_multi_query_tasks_are_those_of_the_queries(name, queries):
    task = registry.get_task(name)
    labels = data(name, examples=300, seq_len=128).labels
    scored = labels[labels != IGNORED]
    assert len(scored) == 300 * queries
    counts = torch.bincount(scored, minlength=task.num_labels)
    assert task.chance == 1 / task.num_labels
    assert task.majority(labels) == pytest.approx(counts.max().item() / len(scored))
    assert counts.min() > 0.7 * len(scored) / task.num_labels


@pytest.mark.parametrize("name", ["multi_query_recall", "multi_query_lookup"])
def test_the_places_of_the_queries_differ_from_example_to_example(name):
    labels = data(name, examples=40, seq_len=128).labels
    assert len({tuple(row.tolist()) for row in (labels != IGNORED)}) == 40


def test_a_distant_label_is_symbol_plus_switch():
    examples = data("distant_label", examples=100)
    for ids, labels in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
        switches = [(position, token) for position, token in enumerate(ids) if token >= distant_label.FIRST_SWITCH]
        ((place, switch),) = switches
        for position, (token, label) in enumerate(zip(ids, labels, strict=True)):
            if abs(position - place) < 16:
                assert label == IGNORED
            else:
                assert label == (token - 1 + switch - 5) % 4


def test_masked_bytes_are_at_the_same_place_in_the_other_half():
    examples = data("masked_copy", examples=100, seq_len=65)
    masked = examples.input_ids == MASK
    assert torch.equal(masked, examples.labels != IGNORED)
    assert not (masked[:, :32] & masked[:, 32:64]).any()
    assert not masked[:, 64].any()
    assert (examples.input_ids[:, 64] == PAD).all()
    assert masked.sum(1).float().mean() == pytest.approx(0.15 * 64, abs=1)
    other = torch.cat([examples.input_ids[:, 32:64], examples.input_ids[:, :32]], dim=1).long()
    assert torch.equal(other[masked[:, :64]], examples.labels[:, :64][masked[:, :64]])
    assert set(examples.labels[masked].tolist()) <= {FIRST_BYTE + byte for byte in masked_copy.ALPHABET.tolist()}


def test_the_answer_is_the_span_of_the_kind_in_the_question():
    examples = data("span_search", examples=200)
    assert examples.span
    for ids, (first, last) in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
        kind = ids[1] - span_search.FIRST_QUESTION
        assert ids[first] == span_search.FIRST_OPEN + kind
        assert ids[last] == span_search.FIRST_CLOSE + kind
        assert first < last
        assert ids.count(ids[first]) == ids.count(ids[last]) == 1
    item = examples[3]
    assert set(item) == {"input_ids", "attention_mask", "start_positions", "end_positions"}


def test_only_the_correct_choice_is_in_the_context():
    examples = data("choice_search", examples=200)
    for choices, label in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
        in_context = [ids[-1] in ids[1:-2] for ids in choices]
        assert in_context == [choice == label for choice in range(4)]


def test_passages_are_in_files_of_their_package_and_split():
    for split in ("train", "eval"):
        examples = data("python_text", split, examples=40)
        for ids, label in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
            text = bytes(token - FIRST_BYTE for token in ids[1:] if token != PAD)
            assert any(text in content for _, content in python_source.files(python_source.PACKAGES[label], split))
    for package in python_source.PACKAGES:
        names = [{name for name, _ in python_source.files(package, split)} for split in ("train", "eval")]
        assert not names[0] & names[1]
        assert all(names)


def test_pairs_are_from_one_file_or_from_two_as_labelled():
    files = [file for package in python_source.PACKAGES for file in python_source.files(package, "train")]
    examples = data("python_retrieval", examples=40, seq_len=256)
    agree = 0
    for pair, label in zip(examples.input_ids.tolist(), examples.labels.tolist(), strict=True):
        texts = [bytes(token - FIRST_BYTE for token in ids[1:] if token != PAD) for ids in pair]
        containing = [{name for name, content in files if text in content} for text in texts]
        assert all(containing)
        agree += bool(containing[0] & containing[1]) == bool(label)
    assert agree >= 39  # boilerplate may occur in two files


@pytest.mark.parametrize(
    ("parts", "seq_len", "expected"),
    [
        ([b"ab"], 5, [CLS, 100, 101, PAD, PAD]),
        ([b"abcdef"], 4, [CLS, 100, 101, 102]),
        ([b"a", b"b"], 5, [CLS, 100, SEPARATOR, 101, PAD]),
        ([b"abcd", b"xyz"], 7, [CLS, 100, 101, SEPARATOR, 123, 124, 125]),
        ([b"abcdefgh", b"z"], 6, [CLS, 100, 101, 102, SEPARATOR, 125]),
    ],
)
def test_the_longest_part_is_cut_first(parts, seq_len, expected):
    assert encode_bytes(parts, seq_len).tolist() == expected


def test_digits_look_the_same_at_any_length():
    short, long = data("digits", seq_len=64, examples=2000), data("digits", seq_len=1100, examples=10)
    assert len(short) + len(data("digits", "eval", 2000)) == 1797
    assert (long.input_ids[:, 33 * 33 :] == 0).all()
    assert (long.attention_mask.sum(1) == 33 * 33).all()
    small = short.input_ids[:10].float().reshape(-1, 8, 8)
    large = long.input_ids[:, : 33 * 33].float().reshape(-1, 1, 33, 33)
    shrunk = torch.nn.functional.interpolate(large, size=(8, 8), mode="bilinear", antialias=True)[:, 0]
    for one, other in zip(small, shrunk, strict=True):
        assert np.corrcoef(one.flatten(), other.flatten())[0, 1] > 0.9
