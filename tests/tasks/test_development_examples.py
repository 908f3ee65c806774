"""What is chosen by its score is scored on training examples that were left out, and never on held-out ones."""

from typing import Any

import pytest
import torch
from synthetic import record

from harness.core import registry
from harness.core.spec import TaskSpec
from harness.report.model.facets import facets_of
from harness.tasks.task import LabelledSequences
from harness.training import train as training

SIZES: dict[str, Any] = {"seq_len": 64, "train_examples": 50, "eval_examples": 30, "seeds": 1}


def rows(examples: LabelledSequences) -> list[bytes]:
    return [ids.numpy().tobytes() for ids in examples.input_ids]


def development(task: str, **changes: Any) -> training.TaskData:
    spec = TaskSpec(attention="sdpa", task=task, scored_on="development", **(SIZES | changes))
    return training._data_of(spec)


@pytest.mark.parametrize("task", ["needle", "digits", "multi_query_recall", "span_search"])
def test_development_examples_are_training_examples_that_are_not_trained_on(task):
    data = development(task)
    all_training = registry.get_task(task).dataset("train", 80, 64, 0)
    assert rows(data.train) + rows(data.eval) == rows(all_training)
    assert len(data.eval) == 20, "a quarter of the examples at most is kept for scoring"
    assert not set(rows(data.train)) & set(rows(data.eval))
    held_out = registry.get_task(task).dataset("eval", 400, 64, 0)
    assert not set(rows(held_out)) & set(rows(data.train) + rows(data.eval))
    assert data.eval.span == all_training.span
    assert torch.equal(data.eval.labels, all_training.labels[60:])


def test_too_few_examples_are_refused_in_words():
    with pytest.raises(ValueError, match=r"task 'needle': development examples .* there are 3; ask for more train_ex"):
        development("needle", train_examples=2, eval_examples=1)


def test_the_case_and_its_place_in_a_report_say_what_it_was_scored_on():
    held_out = TaskSpec(attention="sdpa", task="needle", **SIZES)
    spec = held_out.model_copy(update={"scored_on": "development"})
    assert "scored-development" in spec.case_id
    assert "development" not in held_out.case_id
    facets = [dict(facets_of(record(each)))["Shape"] for each in (held_out, spec)]
    assert facets[1] == f"{facets[0]}, scored on development examples"


def test_a_training_is_scored_on_them():
    spec = TaskSpec(
        attention="none",
        task="needle",
        scored_on="development",
        **(SIZES | {"steps": 1, "hidden_size": 16, "layers": 1}),
    )
    result = training.train(spec)
    assert (result.train_examples, result.eval_examples) == (60, 20)
    assert result.rows_below_one_collision is None
