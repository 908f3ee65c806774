"""Metrics by name: functions of the predictions and the labels, all with a best value of 1."""

import math
import warnings
from collections.abc import Callable

from torch import Tensor

Metric = Callable[[Tensor, Tensor], float]


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """The share of correct labels; int64 tensors of the same shape."""
    return (predicted == labels).double().mean().item()


def exact_match(predicted: Tensor, labels: Tensor) -> float:
    """The share of examples whose labels are all correct; int64 ``[examples, k]``."""
    return (predicted == labels).all(-1).double().mean().item()


def f1(predicted: Tensor, labels: Tensor) -> float:
    """The harmonic mean of precision and recall of label 1; int64 ``[examples]``."""
    from sklearn.metrics import f1_score

    return float(f1_score(labels.numpy(), predicted.numpy(), zero_division=0.0))


def matthews(predicted: Tensor, labels: Tensor) -> float:
    """Matthews' correlation coefficient; int64 ``[examples]``. 0 for a constant, -1 at worst."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(labels.numpy(), predicted.numpy()))


def spearman(predicted: Tensor, labels: Tensor) -> float:
    """Spearman's rank correlation; float ``[examples]``. -1 at worst; 0 if one is constant and it is undefined."""
    from scipy.stats import ConstantInputWarning, spearmanr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        correlation = float(spearmanr(predicted.numpy(), labels.numpy()).statistic)
    return 0.0 if math.isnan(correlation) else correlation


METRICS: dict[str, Metric] = {metric.__name__: metric for metric in (accuracy, exact_match, f1, matthews, spearman)}
