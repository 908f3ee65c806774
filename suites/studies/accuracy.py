"""What an attention costs in accuracy: three tasks, four attentions, two seeds; and trained models with others inside.

It is no part of the profiles, which have one task. Run it by its name; ``--profile standard`` and ``full`` take
longer sequences, more steps and more seeds::

    pytest suites/studies/accuracy.py --benchmark-json=accuracy.json

softmax and sdpa are one attention in two implementations: how far they are apart is the noise of a comparison.
"""

import pytest

from harness.core.spec import TaskSpec
from harness.profiles.profile import swaps
from harness.profiles.selection import Selection
from harness.pytest_plugin import Case
from harness.statistics import intervals

ATTENTIONS = ("softmax", "sdpa", "yoso_e", "yoso")
EXACT = ("softmax", "sdpa", "yoso_e")
TASKS: dict[str, dict[str, dict[str, int]]] = {
    "quick": {
        "needle": {"seq_len": 64, "steps": 400},
        "distant_label": {"seq_len": 32, "steps": 600},
        "digits": {"seq_len": 64, "steps": 1500},
    },
    "standard": {
        "needle": {"seq_len": 512, "steps": 2000},
        "distant_label": {"seq_len": 256, "steps": 4000},
        "digits": {"seq_len": 256, "steps": 4000},
    },
    "full": {
        "needle": {"seq_len": 4096, "steps": 5000},
        "distant_label": {"seq_len": 1024, "steps": 10000},
        "digits": {"seq_len": 1024, "steps": 10000},
    },
}
SEEDS = {"quick": 2, "standard": 3, "full": 5}
LEARNING_RATE = 3e-3


def specs(selection: Selection) -> list[TaskSpec]:
    """Every task with every attention, each with its swaps; none in the profiles gpu and paper."""
    return [
        TaskSpec(
            task=task,
            attention=name,
            seeds=SEEDS[selection.profile],
            learning_rate=LEARNING_RATE,
            device=selection.device,
            dtype=selection.dtypes[0],
            evaluate_with=swaps(name),
            seq_len=length,
            steps=sizes["steps"],
        )
        for task, sizes in TASKS.get(selection.profile, {}).items()
        for length in selection.lengths((sizes["seq_len"],))
        for name in selection.chosen(ATTENTIONS)
    ]


@pytest.mark.task(specs=specs)
def test_accuracy(case: Case) -> None:
    result = case.record.task
    assert result is not None
    if case.spec.attention in EXACT and len(result.scores) > 1:
        found = intervals.seed_mean(result.scores)
        assert found.is_above(max(result.chance, result.majority)), f"{found} is not clearly above chance"
