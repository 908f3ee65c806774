"""From the records of a run to a verdict on each attention: not worse than softmax, worse, or undecided.

The margin is stated before anything is trained (``suites.accuracy.plan``). A difference is a mean over seeds of paired
differences in percentage points, with Student's 95% interval. "Not worse" means that the whole interval is above minus
the margin, "worse" that the whole interval is below it, and everything else is undecided.
"""

from collections.abc import Collection, Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from harness.core.record import Record, TaskResult
from harness.core.spec import Scalar
from harness.statistics import intervals
from suites.accuracy.plan import ATTENTIONS, MARGIN_POINTS, REFERENCE, SAMPLING_MARGIN_POINTS, Cell, Plan

Verdict = Literal["not worse", "worse", "undecided"]


class Difference(BaseModel):
    """A mean paired difference in percentage points and its verdict.

    Without a pair there is no mean, and with a single one no interval.
    """

    to: str
    margin_points: float
    by_seed: dict[int, float]
    mean: float | None = None
    low: float | None = None
    high: float | None = None
    verdict: Verdict = "undecided"
    because: str | None = Field(default=None, description="why the verdict is undecided, or what weakens it")


class Sampled(BaseModel):
    """The same trained models with a sampled attention."""

    attention: str
    knobs: dict[str, Scalar]
    scores: dict[int, float] = Field(description="by seed")
    loss: Difference = Field(description="the sampled scores minus the exact ones")


class CellResult(BaseModel):
    """The result of one attention on one task at one length."""

    task: str
    seq_len: int
    attention: str
    knobs: dict[str, Scalar]
    development_scores: dict[str, list[float]] = Field(description="one per development seed, by learning rate")
    learning_rate: float | None = None
    scores: dict[int, float] = Field(description="held-out scores by seed")
    mean_score: float | None = None
    difference: Difference | None = Field(default=None, description="None: the reference, or not compared with it")
    sampled: Sampled | None = None
    rows_below_one_collision: float | None = Field(default=None, description="the mean over seeds")
    num_hash: int | None = Field(default=None, description="the hashes that these collisions are counted in")
    train_seconds: float | None = Field(default=None, description="the median over seeds")
    train_bytes: int | None = Field(default=None, description="peak memory of a training step")
    chance: float | None = None
    majority: float | None = None
    reasons: list[str] = Field(default_factory=list, description="why trainings have no score; each reason once")
    trainings: int = Field(description="records that the cell has")
    planned: int = Field(description="records that a complete cell has")


def best_learning_rate(cell: Cell, records: Mapping[str, Record]) -> float | None:
    """The learning rate with the best mean score on development examples.

    A rate with a training that gave no score, for example because it diverged, comes after all others. The rate that
    the plan names first is chosen among equals. None if no training gave a score.
    """
    best: tuple[int, float] | None = None
    chosen = None
    for rate in cell.plan.learning_rates:
        specs = cell.development(rate)
        scores = [task.scores[0] for spec in specs if (task := _result(records.get(spec.case_id))) is not None]
        if not scores:
            continue
        rank = len(scores), float(np.mean(scores))
        if best is None or rank > best:
            best, chosen = rank, rate
    return chosen


def results(plan: Plan, records: Mapping[str, Record]) -> list[CellResult]:
    """The result of every cell that has at least one record, in the order of the plan."""
    cells = plan.cells()
    references = {cell.setting: cell for cell in cells if cell.attention == REFERENCE}
    found = [cell_result(cell, references.get(cell.setting), records) for cell in cells]
    return [result for result in found if result.trainings]


def cell_result(cell: Cell, reference: Cell | None, records: Mapping[str, Record]) -> CellResult:
    """The result of one cell, compared with the reference on the same setting if there is one."""
    development = {rate: cell.development(rate) for rate in cell.plan.learning_rates}
    rate = rate_of_comparison(cell, records)
    specs = [*(spec for each in development.values() for spec in each), *(cell.comparison(rate) if rate else ())]
    own = [record for spec in specs if (record := records.get(spec.case_id)) is not None]
    attention = ATTENTIONS[cell.attention]
    trained = _trained(cell, rate, records)
    result = CellResult(
        task=cell.setting.task,
        seq_len=cell.setting.seq_len,
        attention=cell.attention,
        knobs=dict(attention.knobs),
        development_scores={
            f"{each:g}": [task.scores[0] for spec in specs if (task := _result(records.get(spec.case_id))) is not None]
            for each, specs in development.items()
        },
        learning_rate=rate,
        scores={seed: task.scores[0] for seed, task in trained.items()},
        reasons=list(dict.fromkeys(reason for record in own if record.status != "ok" for reason in record.reasons[:1])),
        trainings=len(own),
        planned=sum(map(len, development.values())) + cell.plan.seeds,
    )
    if trained:
        tasks = list(trained.values())
        memories = [task.train_memory.peak_bytes for task in tasks if task.train_memory is not None]
        below = [share for task in tasks for share in task.rows_below_one_collision or ()]
        result.mean_score = float(np.mean(list(result.scores.values())))
        result.train_seconds = float(np.median([task.train_seconds[0] for task in tasks]))
        result.train_bytes = max((peak for peak in memories if peak is not None), default=None)
        result.rows_below_one_collision = float(np.mean(below)) if below else None
        result.num_hash = next(_num_hash(record) for record in own) if below else None
        result.chance, result.majority = tasks[0].chance, max(task.majority for task in tasks)
        result.sampled = _sampled(cell, trained)
    if reference is not None and cell.attention != REFERENCE:
        reference_rate = rate_of_comparison(reference, records)
        result.difference = _to_reference(cell, trained, _trained(reference, reference_rate, records))
    return result


def difference(
    to: str, margin_points: float, scores: Mapping[int, float], reference: Mapping[int, float], planned: int
) -> Difference:
    """The paired difference of scores to those of the reference, by seed, and the verdict.

    Args:
        to: what the reference is called.
        margin_points: see this module.
        scores: by seed.
        reference: by seed.
        planned: the number of pairs of a complete comparison; with fewer the verdict is undecided.
    """
    by_seed = {seed: 100 * (scores[seed] - reference[seed]) for seed in sorted(scores.keys() & reference.keys())}
    found = Difference(to=to, margin_points=margin_points, by_seed=by_seed)
    if not by_seed:
        return found.model_copy(update={"because": "no seed has both scores"})
    mean = intervals.seed_mean(list(by_seed.values()))
    found = found.model_copy(update={"mean": mean.mean, "low": mean.low, "high": mean.high})
    if len(by_seed) < planned:
        return found.model_copy(update={"because": f"{len(by_seed)} of {planned} seeds have both scores"})
    if mean.low is None or mean.high is None:
        return found.model_copy(update={"because": "one seed gives no interval"})
    if mean.low >= -margin_points:
        return found.model_copy(update={"verdict": "not worse"})
    if mean.high < -margin_points:
        return found.model_copy(update={"verdict": "worse"})
    return found.model_copy(update={"because": "the interval contains the margin"})


def _to_reference(cell: Cell, trained: Mapping[int, TaskResult], reference: Mapping[int, TaskResult]) -> Difference:
    same = {
        seed
        for seed in trained.keys() & reference.keys()
        if trained[seed].examples_sha256 == reference[seed].examples_sha256
    }
    own, others = ({seed: task.scores[0] for seed, task in of.items() if seed in same} for of in (trained, reference))
    found = difference(REFERENCE, MARGIN_POINTS, own, others, cell.plan.seeds)
    different = sorted((trained.keys() & reference.keys()) - same)
    if different:
        words = f"the examples of seeds {', '.join(map(str, different))} differ from those of {REFERENCE}"
        return found.model_copy(update={"verdict": "undecided", "because": words})
    if found.verdict == "not worse" and not (_learned(trained.values()) or _learned(reference.values())):
        because = f"neither it nor {REFERENCE} is above always giving the most frequent answer"
        return found.model_copy(update={"verdict": "undecided", "because": because})
    return found


def _learned(tasks: Collection[TaskResult]) -> bool:
    """Whether the mean score is clearly above the baselines."""
    mean = intervals.seed_mean([task.scores[0] for task in tasks])
    return mean.is_above(max(max(task.chance, task.majority) for task in tasks))


def rate_of_comparison(cell: Cell, records: Mapping[str, Record]) -> float | None:
    """The learning rate of the cell's held-out trainings: chosen when all development trainings have a record."""
    development = [spec for rate in cell.plan.learning_rates for spec in cell.development(rate)]
    if any(spec.case_id not in records for spec in development):
        return None
    return best_learning_rate(cell, records)


def _trained(cell: Cell, rate: float | None, records: Mapping[str, Record]) -> dict[int, TaskResult]:
    """The held-out results by seed, of the trainings that gave a score."""
    specs = cell.comparison(rate) if rate is not None else []
    found = {spec.seed: _result(records.get(spec.case_id)) for spec in specs}
    return {seed: task for seed, task in found.items() if task is not None}


def _sampled(cell: Cell, trained: Mapping[int, TaskResult]) -> Sampled | None:
    swap = ATTENTIONS[cell.attention].sampled
    if swap is None:
        return None
    scores = {
        seed: task.evaluated_with[0].scores[0]
        for seed, task in trained.items()
        if task.evaluated_with and task.evaluated_with[0].scores
    }
    exact = {seed: task.scores[0] for seed, task in trained.items()}
    loss = difference(cell.attention, SAMPLING_MARGIN_POINTS, scores, exact, cell.plan.seeds)
    return Sampled(attention=swap.attention, knobs=dict(swap.knobs), scores=scores, loss=loss)


def _num_hash(record: Record) -> int:
    from harness.training.expected_collisions import EXPECTATION_HASHES  # imports torch

    return int(record.knobs.get("num_hash", EXPECTATION_HASHES))


def _result(record: Record | None) -> TaskResult | None:
    return record.task if record is not None and record.status == "ok" else None
