"""What fewer hashes do to a trained model, in words: where a loss is clear, and where there is none to speak of."""

from typing import Any

import numpy as np
import pandas as pd

from harness.report.model import units
from harness.report.model.sentence import Sentence, join, say
from harness.report.model.units import Amount
from harness.report.questions.scores import by_task
from harness.report.questions.swaps import Place, over_hashes, swapped
from harness.statistics import intervals

MARGIN = 1.0
"""Points of a score: a swap that is shown to lose no more keeps it."""
FEWEST_SEEDS = 3
"""Two differences may agree by chance, which makes an interval of no width: from fewer seeds no verdict in words."""
_LEVEL = Amount(intervals.LEVEL, "fraction", text=units.LEVEL_WORDS)


def sentences(table: pd.DataFrame) -> list[Sentence]:
    """What fewer hashes do to each model that was evaluated with several numbers of them."""
    return [
        _sentence(task, row, series, its)
        for task, view in by_task(table)
        for row in swapped(view)
        for series, its in over_hashes(row).items()
        if len(its) > 1
    ]


def _sentence(task: str, row: Any, series: str, its: list[Place]) -> Sentence:
    ends = [
        say("{} at m = {}", Amount(one.score.value, "fraction"), _count(one)) for one in (its[0], its[-1]) if one.score
    ]
    return say(
        "On {} at {} tokens the model trained in {} scores {}, and with {} in its place, by m hashes, {}: {}.",
        task, Amount(row.seq_len, "tokens"), row.series,
        Amount(float(np.mean(row.record.task.scores)), "fraction"), series, join(ends, " and "), _verdict(its),
    )  # fmt: skip


def _verdict(its: list[Place]) -> Sentence:
    """Where the loss is clear, where it is small, and where the seeds do not tell."""
    fewest = min(len(one.swapped.scores) for one in its)
    if fewest < FEWEST_SEEDS:
        words = "{} seed cannot" if fewest == 1 else "{} seeds cannot"
        return say(words + " tell a change from noise", Amount(fewest, "count"))
    lost = [one for one in its if one.change and one.change.high is not None and one.change.high < 0]
    kept: list[Place] = []
    for one in reversed(its):
        if one.change is None or one.change.low is None or one.change.low < -MARGIN:
            break
        kept.insert(0, one)
    margin = Amount(MARGIN, "points", text="1 point")
    said = [say("the loss is clear at m = {}", join(map(_count, lost)))] if lost else []
    said += [say("from m = {} on it loses no more than {}", _count(kept[0]), margin)] if kept else []
    open_ = [one for one in its if one not in lost and one not in kept]
    said += [say("the seeds do not decide at m = {}", join(map(_count, open_)))] if open_ else []
    return say("{} ({} intervals over {} seeds)", join(said, "; "), _LEVEL, Amount(fewest, "count"))


def _count(one: Place) -> Amount:
    return Amount(one.num_hash or 0, "count")
