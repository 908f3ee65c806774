"""The results as a page of Markdown: one table for each task and length."""

from collections.abc import Sequence

from harness.core.escaping import markdown
from harness.core.record import Run
from suites.accuracy.plan import MARGIN_POINTS, REFERENCE, SAMPLING_MARGIN_POINTS, Plan
from suites.accuracy.verdicts import CellResult, Difference

COLUMNS = (
    "attention", "rate", "scores by seed", "mean", f"points to {REFERENCE} [95%]", "verdict", "sampled: mean",
    "sampled: points lost or won [95%]", "sampled: verdict", "rows below one collision", "training", "memory",
)  # fmt: skip
ABSENT = "-"


def render(plan: Plan, run: Run, results: Sequence[CellResult]) -> str:
    """The page.

    Args:
        plan: what the run trains.
        run: for its date, commit and machine.
        results: of the cells that have records.
    """
    planned = len(plan.cells()) * (len(plan.learning_rates) * plan.development_seeds + plan.seeds)
    done = sum(result.trainings for result in results)
    rates = ", ".join(f"{rate:g}" for rate in plan.learning_rates)
    denoised = f" Each training begins after {plan.pretrain_steps:,} steps of denoising." if plan.pretrain_steps else ""
    parts = [
        "# Scores of trained models",
        markdown(
            f"{run.started}, profile {plan.name}, commit {run.commit}, {run.machine.get('cpu')}. "
            f"{done:,} of {planned:,} trainings have a record."
        ),
        f"Each attention is trained with the rates {rates} on {_count(plan.development_seeds, 'development seed')}. "
        f"The rate with the best mean score is used for {_count(plan.seeds, 'fresh seed')} with held-out scores. "
        "A seed gives every attention the same examples, the same initial weights and the same order of the data."
        f"{denoised}",
        f"Verdicts, with margins that were set before the run: *not worse* means that the 95% interval of the paired "
        f"difference to {REFERENCE} (softmax) is above -{MARGIN_POINTS:g} points, *worse* that it is below; everything "
        f"else is *undecided*. A trained YOSO-E that runs with samples is judged by -{SAMPLING_MARGIN_POINTS:g}. "
        "The intervals are Student's over seeds; they assume normal differences, which scores near 100% are not.",
        "*Rows below one collision* is the share of rows of the trained attention whose expected number of hash "
        "collisions with all keys is below one. *Training* is the median time of one seed, *memory* the peak of one "
        "forward and backward pass.",
    ]
    by_setting: dict[tuple[str, int], list[CellResult]] = {}
    for result in results:
        by_setting.setdefault((result.task, result.seq_len), []).append(result)
    for (task, seq_len), group in by_setting.items():
        parts += _section(task, seq_len, group)
    parts += ["## Reproduce", "    " + " ".join(run.command.split())]
    return "\n\n".join(parts) + "\n"


def _section(task: str, seq_len: int, results: Sequence[CellResult]) -> list[str]:
    scored = [result for result in results if result.majority is not None and result.chance is not None]
    parts = [f"## {markdown(task)}, n = {seq_len:,}"]
    if scored:
        baseline = max(max(result.chance or 0, result.majority or 0) for result in scored)
        parts.append(f"Chance or the most frequent answer gives {_percent(baseline)} at most.")
    rule = ["---"] * len(COLUMNS)
    parts.append("\n".join("| " + " | ".join(cells) + " |" for cells in (COLUMNS, rule, *map(_row, results))))
    notes = [note for result in results for note in _notes(result)]
    return [*parts, *(["\n".join(f"- {markdown(note)}" for note in notes)] if notes else [])]


def _row(result: CellResult) -> list[str]:
    sampled = result.sampled
    below = result.rows_below_one_collision
    return [
        markdown(result.attention),
        ABSENT if result.learning_rate is None else f"{result.learning_rate:g}",
        " ".join(_percent(score) for score in result.scores.values()) or ABSENT,
        ABSENT if result.mean_score is None else _percent(result.mean_score),
        _points(result.difference),
        _verdict(result.difference),
        _percent(sum(sampled.scores.values()) / len(sampled.scores)) if sampled and sampled.scores else ABSENT,
        _points(sampled.loss if sampled else None),
        _verdict(sampled.loss if sampled else None),
        ABSENT if below is None else f"{_percent(below)} (m = {result.num_hash})",
        ABSENT if result.train_seconds is None else f"{result.train_seconds:.0f} s",
        ABSENT if result.train_bytes is None else f"{result.train_bytes / 2**20:.1f} MiB",
    ]


def _notes(result: CellResult) -> list[str]:
    """What a reader of the row must know besides its numbers."""
    scores = "; ".join(
        f"rate {rate}: {', '.join(map(_percent, values)) or 'no score'}"
        for rate, values in result.development_scores.items()
    )
    notes = [f"{result.attention}, development scores: {scores}"]
    if result.trainings < result.planned:
        notes.append(f"{result.attention}: {result.trainings} of {result.planned} trainings have a record")
    for difference in (result.difference, result.sampled.loss if result.sampled else None):
        if difference is not None and difference.because is not None:
            notes.append(f"{result.attention}, compared with {difference.to}: {difference.because}")
    return [*notes, *(f"{result.attention}: {reason}" for reason in result.reasons)]


def _points(difference: Difference | None) -> str:
    if difference is None or difference.mean is None:
        return ABSENT
    interval = "" if difference.low is None else f" [{difference.low:+.1f}, {difference.high:+.1f}]"
    return f"{difference.mean:+.1f}{interval}"


def _verdict(difference: Difference | None) -> str:
    return ABSENT if difference is None else difference.verdict


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
