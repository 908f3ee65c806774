"""Long Range Arena at its authors' settings, from scratch: hours on one GPU, weeks on a CPU.

It is no part of the profiles. One task is chosen by -k, real data sets are found by --data-dir::

    pytest suites/studies/lra.py -k listops --device cuda --checkpoints=out/lra --benchmark-json=out/listops.json

ListOps and Pathfinder are generated here; imdb, aan and cifar10 take their files (docs/tasks.md).
"""

from collections.abc import Sequence

import pytest

from harness.core.spec import TaskSpec
from harness.profiles.published_settings import LRA, lra
from harness.profiles.selection import Selection
from harness.pytest_plugin import Case

ATTENTIONS = ("softmax", "yoso_e", "yoso", "performer_relu", "nystromformer")
HASHES = (16, 32)
SEEDS = 3


def specs(selection: Selection) -> Sequence[TaskSpec]:
    """Every task with every attention; sampled YOSO with 16 and with 32 hashes."""
    return [
        lra(task, name, num_hash, seeds=SEEDS, device=selection.device, dtype=selection.dtypes[0])
        for task in LRA
        for name in selection.chosen(ATTENTIONS)
        for num_hash in (HASHES if name == "yoso" else HASHES[-1:])
    ]


@pytest.mark.task(specs=specs)
def test_lra(case: Case) -> None:
    assert case.record.task is not None
