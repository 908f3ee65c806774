"""The run that ``harness report`` reads: one record for each attention on a task, with the scores of all its seeds.

The log has one record for each training, because a training is what is continued. A reader of the report wants to see
the seeds of one attention side by side. Development trainings are in the log and in the summary only.
"""

from collections.abc import Mapping, Sequence

from harness.core.record import Record, Run, Swapped, TaskResult
from suites.accuracy.plan import Cell, Plan
from suites.accuracy.verdicts import rate_of_comparison


def report_run(plan: Plan, run: Run) -> Run:
    """The held-out trainings of a run, those of consecutive seeds as one record.

    A training without a score remains a record of its own, with its reason, also a development training.

    Args:
        plan: what the run trains.
        run: with one record for each training.
    """
    records = {record.case_id: record for record in run.records}
    return run.model_copy(update={"records": [each for cell in plan.cells() for each in _records(cell, records)]})


def _records(cell: Cell, records: Mapping[str, Record]) -> list[Record]:
    rate = rate_of_comparison(cell, records)
    specs = cell.comparison(rate) if rate is not None else []
    development = [spec for each in cell.plan.learning_rates for spec in cell.development(each)]
    failed = [found for spec in development if (found := records.get(spec.case_id)) and found.status != "ok"]
    groups: list[list[Record]] = []
    for record in [*failed, *(records[spec.case_id] for spec in specs if spec.case_id in records)]:
        if groups and _follows(record, groups[-1][-1]):
            groups[-1].append(record)
        else:
            groups.append([record])
    return [_merged(group) for group in groups]


def _follows(record: Record, before: Record) -> bool:
    return record.task is not None and before.task is not None and record.spec.seed == before.spec.seed + 1


def _merged(group: Sequence[Record]) -> Record:
    """One record of trainings that differ in their seed, which are consecutive."""
    first = group[0]
    tasks = [record.task for record in group if record.task is not None]
    if len(tasks) < 2:
        return first
    spec = first.spec.model_copy(update={"seeds": len(tasks)})
    return first.model_copy(
        update={
            "case_id": spec.case_id,
            "spec": spec,
            "checks": [check for record in group for check in record.checks],
            "unverified": list(dict.fromkeys(words for record in group for words in record.unverified)),
            "findings": list(dict.fromkeys(words for record in group for words in record.findings)),
            "machine_use": None,  # of one training each
            "task": _all_seeds(tasks),
            "took_seconds": sum(record.took_seconds for record in group),
        }
    )


def _all_seeds(tasks: Sequence[TaskResult]) -> TaskResult:
    first = tasks[0]
    shares = [share for task in tasks for share in task.rows_below_one_collision or ()]
    return first.model_copy(
        update={
            "scores": [score for task in tasks for score in task.scores],
            "other_scores": {
                name: [score for task in tasks for score in task.other_scores[name]] for name in first.other_scores
            },
            "train_seconds": [seconds for task in tasks for seconds in task.train_seconds],
            "pretrain_seconds": [seconds for task in tasks for seconds in task.pretrain_seconds],
            "eval_seconds": [seconds for task in tasks for seconds in task.eval_seconds],
            "steps": [steps for task in tasks for steps in task.steps],
            "majority": max(task.majority for task in tasks),
            "examples_sha256": None,  # each seed has examples of its own
            "rows_below_one_collision": shares if len(shares) == len(tasks) else None,
            "evaluated_with": [_swapped(tasks, place) for place in range(len(first.evaluated_with))],
        }
    )


def _swapped(tasks: Sequence[TaskResult], place: int) -> Swapped:
    """The scores of all seeds with another attention; none where one of them has none, whose reason is kept."""
    swaps = [task.evaluated_with[place] for task in tasks]
    reason = next((swap.reason for swap in swaps if not swap.scores), None)
    return swaps[0].model_copy(
        update={
            "scores": [] if reason else [score for swap in swaps for score in swap.scores],
            "eval_seconds": [seconds for swap in swaps for seconds in swap.eval_seconds],
            "reason": reason,
        }
    )
