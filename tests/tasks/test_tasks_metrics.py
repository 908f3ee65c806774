"""Metrics on small examples computed by hand, and the baselines of every kind of label."""

import pytest
import torch

from harness.tasks.listops import ListOps
from harness.tasks.task import IGNORED, Task, TaskHead
from harness.tasks.task_metrics import METRICS


def a_task(head: TaskHead, metric: str = "accuracy") -> Task:
    task = ListOps()
    task.head, task.metric = head, metric
    return task


def test_metrics_match_their_definitions():
    labels, predicted = torch.tensor([1, 1, 1, 0, 0, 0]), torch.tensor([1, 1, 0, 1, 0, 0])
    assert METRICS["accuracy"](predicted, labels) == pytest.approx(4 / 6)
    assert METRICS["f1"](predicted, labels) == pytest.approx(2 / 3)  # precision and recall are both 2/3
    assert METRICS["matthews"](predicted, labels) == pytest.approx((2 * 2 - 1 * 1) / 9)
    assert METRICS["f1"](torch.zeros(6).long(), labels) == 0
    assert METRICS["matthews"](torch.zeros(6).long(), labels) == 0


def test_spearman_is_the_correlation_of_ranks():
    labels = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert METRICS["spearman"](torch.tensor([0.1, 5.0, 6.0, 700.0]), labels) == pytest.approx(1)
    assert METRICS["spearman"](-labels, labels) == pytest.approx(-1)
    assert METRICS["spearman"](torch.ones(4), labels) == 0


def test_ignored_tokens_do_not_count():
    task = a_task("token_classification")
    labels = torch.tensor([[1, IGNORED, 2], [IGNORED, 3, 1]])
    predicted = torch.tensor([[1, 0, 0], [0, 3, 0]])
    assert task.score(predicted, labels) == 0.5
    assert task.majority(labels) == 0.5


def test_a_span_is_correct_if_both_ends_are():
    task = a_task("question_answering", "exact_match")
    labels = torch.tensor([[2, 5], [2, 5], [1, 9]])
    assert task.score(torch.tensor([[2, 5], [2, 6], [1, 9]]), labels) == pytest.approx(2 / 3)
    assert task.majority(labels) == pytest.approx(2 / 3)
