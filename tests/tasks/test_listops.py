"""ListOps: labels compared with a stack machine over the tokens, and the statistics that the generation rules imply."""

import statistics
import time

import pytest
import torch

from harness.core import registry
from harness.tasks.listops import VOCABULARY, ListOps
from harness.tasks.task import LabelledSequences, Task

TASK = ListOps()


def expressions(data: LabelledSequences) -> list[list[str]]:
    """The tokens of each example as words, without the classification token and the padding."""
    examples = []
    for ids, mask in zip(data.input_ids.tolist(), data.attention_mask.tolist(), strict=True):
        length = sum(mask)
        assert mask == [1] * length + [0] * (len(mask) - length)
        assert VOCABULARY[ids[0]] == "<cls>"
        assert {VOCABULARY[i] for i in ids[length:]} <= {"<pad>"}
        words = [VOCABULARY[i] for i in ids[1:length]]
        assert not {"<pad>", "<cls>"} & set(words)
        examples.append(words)
    return examples


def evaluate(words: list[str]) -> tuple[int, int, list[int]]:
    """Value, depth (a lone digit is 1) and the number of arguments of each operator, by a stack over the words."""
    stack: list[tuple[str, list[int]]] = [("root", [])]
    depth, arguments = 1, []
    for word in words:
        if word.startswith("["):
            stack.append((word, []))
            depth = max(depth, len(stack))
        elif word == "]":
            name, values = stack.pop()
            arguments.append(len(values))
            match name:
                case "[MIN":
                    value = sorted(values)[0]
                case "[MAX":
                    value = sorted(values)[-1]
                case "[MED":
                    value = int(statistics.median(values))
                case "[SM":
                    value = int(str(sum(values))[-1])
                case _:
                    raise AssertionError(name)
            stack[-1][1].append(value)
        else:
            stack[-1][1].append(int(word))
    assert len(stack) == 1, "brackets do not match"
    (value,) = stack[0][1]
    return value, depth, arguments


@pytest.fixture(scope="module")
def short() -> LabelledSequences:
    return TASK.dataset("train", 2000, 128, seed=0)


@pytest.fixture(scope="module")
def long() -> LabelledSequences:
    return TASK.dataset("train", 200, 2000, seed=0)


def test_the_evaluator_of_this_file_is_right():
    cases = {
        "[MIN 4 3 9 ]": 3,
        "[MAX 4 3 9 ]": 9,
        "[MED 4 3 9 ]": 4,
        "[MED 4 3 9 5 ]": 4,  # 4.5 rounded down
        "[SM 4 3 9 ]": 6,
        "[MAX 2 9 [MIN 4 7 ] 0 ]": 9,
        "[SM 2 [MED 8 8 1 ] [MAX 5 6 ] ]": 6,
    }
    assert {text: evaluate(text.split())[0] for text in cases} == cases


@pytest.mark.parametrize("data", ["short", "long"])
def test_every_label_is_the_value_of_its_expression(data, request):
    data = request.getfixturevalue(data)
    values = [evaluate(words)[0] for words in expressions(data)]
    assert values == data.labels.tolist()


@pytest.mark.parametrize(("data", "seq_len"), [("short", 128), ("long", 2000)])
def test_lengths_are_within_the_bounds_and_reach_both_ends(data, seq_len, request):
    lengths = [len(words) for words in expressions(request.getfixturevalue(data))]
    assert min(lengths) > seq_len // 4
    assert max(lengths) < seq_len
    assert min(lengths) < 0.3 * seq_len
    assert max(lengths) > 0.95 * seq_len


def test_depth_and_arguments_are_those_of_long_range_arena(long):
    evaluated = [evaluate(words) for words in expressions(long)]
    assert max(depth for _, depth, _ in evaluated) == 10
    arguments = [n for _, _, counts in evaluated for n in counts]
    assert (min(arguments), max(arguments)) == (2, 10)
    # The mean of 2..10 is 6. Rejecting by length favours wide nodes a little.
    assert 5.9 < statistics.mean(arguments) < 6.6


def test_operators_and_digits_are_drawn_uniformly(long):
    words = [word for expression in expressions(long) for word in expression]
    operators = [word for word in words if word.startswith("[")]
    digits = [word for word in words if word.isdigit()]
    assert len(operators) == words.count("]")
    for name in ("[MIN", "[MAX", "[MED", "[SM"):
        assert operators.count(name) / len(operators) == pytest.approx(0.25, abs=0.02)
    for digit in "0123456789":
        assert digits.count(digit) / len(digits) == pytest.approx(0.1, abs=0.01)


def test_an_argument_is_a_subtree_a_quarter_of_the_time():
    # Counted below the root and above the last depth. At this length, rejection by length hardly biases the share.
    data = TASK.dataset("train", 300, 2000, seed=3)
    subtrees = arguments = 0
    for words in expressions(data):
        depth = 1
        for word in words:
            if 2 <= depth <= 9 and word != "]":
                arguments += 1
                subtrees += word.startswith("[")
            depth += word.startswith("[") - (word == "]")
    assert subtrees / arguments == pytest.approx(0.25, abs=0.04)


def test_labels_0_and_9_are_the_most_frequent_in_both_splits(short):
    held_out = TASK.dataset("eval", 1000, 128, seed=0)
    for labels in (short.labels, held_out.labels):
        share = torch.bincount(labels, minlength=10) / len(labels)
        assert share.min() > 0.05
        assert set(share.argsort()[-2:].tolist()) == {0, 9}
        assert TASK.majority(labels) == pytest.approx(share.max().item())
        assert 0.12 < TASK.majority(labels) < 0.2


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1), (7, 0)])
@pytest.mark.parametrize("seq_len", [16, 64])
def test_train_and_eval_share_no_example_whatever_the_seeds(seq_len, seeds):
    train = {" ".join(words) for words in expressions(TASK.dataset("train", 1500, seq_len, seeds[0]))}
    held_out = {" ".join(words) for words in expressions(TASK.dataset("eval", 500, seq_len, seeds[1]))}
    assert len(train) == 1500, "an expression occurs twice"
    assert len(held_out) == 500, "an expression occurs twice"
    assert not train & held_out


def test_equal_arguments_give_equal_examples_and_seeds_differ():
    one, same, other = (TASK.dataset("train", 50, 64, seed) for seed in (5, 5, 6))
    assert torch.equal(one.input_ids, same.input_ids)
    assert torch.equal(one.labels, same.labels)
    assert not torch.equal(one.input_ids, other.input_ids)
    longer = TASK.dataset("train", 80, 64, 5)
    assert torch.equal(longer.input_ids[:50], one.input_ids)


def test_stopping_early_does_not_change_the_distribution_of_accepted_expressions():
    # With twice the limit nothing below the bound is stopped early, so those trees are all complete.
    def lengths(limit: int) -> list[int]:
        data = TASK.dataset("train", 1500, limit, seed=11)
        return [len(words) for words in expressions(data)]

    cut = [n for n in lengths(96) if 48 < n < 96]
    whole = [n for n in lengths(192) if 48 < n < 96]
    assert statistics.mean(cut) == pytest.approx(statistics.mean(whole), rel=0.03)


def test_an_item_has_the_tensors_that_a_trainer_collates(short):
    item = short[3]
    assert len(short) == 2000
    assert {name: (tuple(value.shape), value.dtype) for name, value in item.items()} == {
        "input_ids": ((128,), torch.int64),
        "attention_mask": ((128,), torch.int64),
        "labels": ((), torch.int64),
    }


@pytest.mark.alone
def test_generation_is_fast_enough():
    start = time.perf_counter()
    TASK.dataset("train", 500, 128, seed=1)
    TASK.dataset("train", 500, 2000, seed=1)
    assert time.perf_counter() - start < 15  # takes about 1.3 s; 4500 long examples must stay below two minutes


@pytest.mark.parametrize(("seq_len", "words"), [(15, "at least 16, got 15"), (200_000, "200000 is too long")])
def test_a_length_that_the_rules_cannot_produce_is_rejected(seq_len, words):
    with pytest.raises(ValueError, match=words):
        TASK.dataset("train", 5, seq_len, seed=0)


def test_the_task_is_found_by_name():
    task = registry.get_task("listops")
    assert isinstance(task, Task)
    assert (task.name, task.metric, task.num_labels, task.chance) == ("listops", "accuracy", 10, 0.1)
    assert task.vocab_size == len(VOCABULARY) == 17
    assert task.score(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 2, 3, 0])) == 0.75


def test_labels_out_of_range_are_named_in_the_error():
    data = TASK.dataset("train", 4, 64, seed=0)
    TASK.check(data, 64)
    wrong = LabelledSequences(data.input_ids, data.attention_mask, torch.tensor([0, 10, -1, 10]))
    with pytest.raises(ValueError, match=r"labels must be in \[0, 10\), got \[-1, 10\]"):
        TASK.check(wrong, 64)


def test_sequences_and_tokens_out_of_range_are_named_in_the_error():
    data = TASK.dataset("train", 4, 64, seed=0)
    with pytest.raises(ValueError, match="a sequence has 64 tokens, the model is built for seq_len 32"):
        TASK.check(data, 32)
    beyond = LabelledSequences(data.input_ids + 17, data.attention_mask, data.labels)
    with pytest.raises(ValueError, match=r"token ids must be in \[0, 17\), got 17 to 33"):
        TASK.check(beyond, 64)
