"""The study's results as ``reading.md``: the verdicts first, then a table for each kind of inputs and length."""

from pathlib import Path
from statistics import fmean

from harness.core.escaping import markdown
from harness.core.record import Timing
from harness.core.spec import Swap
from suites.studies.estimators import verdicts
from suites.studies.estimators.measurement import TENSORS
from suites.studies.estimators.results import RESULTS, Outcome, Point, Study

READING = "reading.md"
TITLE = "Error against time of YOSO's estimators on a CPU"
INTRODUCTION = (
    "All settings of a table took turns in one process, in rounds of one forward call and one forward with backward of "
    "each. Milliseconds are the median over rounds of whole calls, with its bootstrap interval; fewer than ten rounds "
    "make that interval too narrow. A ratio to sdpa is the median of the ratios within rounds: below 1 is faster. "
    "Errors are relative Frobenius norms of the difference to YOSO-E, of the output and of the gradients of query, key "
    "and value (by YOSO-E's own surrogate of the derivative), averaged over the same rounds, which have random numbers "
    "of their own. sdpa computes another function than YOSO-E, so it has a time only."
)
COLUMNS = ("setting", "ms forward", "x of sdpa", "ms forward + backward", "x of sdpa", "output", "dq", "dk", "dv")
SDPA = Swap(attention="sdpa")
NONE = "\N{EN DASH}"


def write(study: Study, folder: Path) -> None:
    """Write the page."""
    points = sorted(study.points, key=lambda point: (_kinds(study).index(point.inputs), point.seq_len))
    blocks = [f"# {TITLE}", markdown(INTRODUCTION), _made(study)]
    blocks += ["## Rescored samples against plain ones", markdown(_claims()), _items(_against(points))]
    blocks += ["## Where samples are faster than exact attention and accurate", _items(_green(study, points))]
    for point in points:
        blocks += [
            f"## {markdown(point.inputs)}, n = {point.seq_len:,}",
            markdown(_about(point)),
            _table(point),
            markdown(_disturbed(point)),
        ]
    (folder / READING).write_text("\n\n".join(blocks) + "\n", encoding="utf-8")


def _kinds(study: Study) -> list[str]:
    return list(dict.fromkeys(point.inputs for point in study.points))


def _claims() -> str:
    return (
        f"{verdicts.RESCORED.label} relative to {verdicts.PLAIN.label}. The claims are errors below 1 times those of "
        f"plain samples, and times below {verdicts.MOST_TIME_RATIO:g} times theirs. A claim is undecided where its "
        "limit is within the interval."
    )


def _against(points: list[Point]) -> list[str]:
    return [sentence for point in points if (sentence := verdicts.rescored_against_plain(point)) is not None]


def _green(study: Study, points: list[Point]) -> list[str]:
    """Of the longest sequence of each kind of inputs."""
    longest = [max((x for x in points if x.inputs == kind), key=lambda x: x.seq_len) for kind in _kinds(study)]
    return [verdicts.green_zone(point, mode) for point in longest for mode in verdicts.MODES]


def _about(point: Point) -> str:
    worst = max(point.reference_errors.values())
    return (
        f"{point.about[0].upper()}{point.about[1:]}. {point.heads} heads of {point.head_dim}, {point.rounds} rounds. "
        f"YOSO-E in float32 differs from its float64 definition by {worst:.1e} at most."
    )


def _table(point: Point) -> str:
    sdpa = point.outcome(SDPA)
    lines = [list(COLUMNS), ["---", *["---:"] * (len(COLUMNS) - 1)]]
    for outcome in point.outcomes:
        times = [cell for mode in ("forward", "training") for cell in _times(outcome, sdpa, mode)]
        errors = [f"{fmean(outcome.errors[name]):.1%}" if outcome.errors else NONE for name in TENSORS]
        lines.append([markdown(cell) for cell in (outcome.setting.label, *times, *errors)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _times(outcome: Outcome, sdpa: Outcome | None, mode: str) -> tuple[str, str]:
    timing: Timing = getattr(outcome, mode)
    ratio = NONE if sdpa is None else f"{verdicts.time_ratio(timing, getattr(sdpa, mode)).value:.3g}"
    return str(verdicts.milliseconds(timing)), ratio


def _disturbed(point: Point) -> str:
    """One sentence; how each timing was disturbed is in the results."""
    found = [
        f"{outcome.setting.label} ({words})"
        for outcome in point.outcomes
        for mode, words in verdicts.MODES.items()
        if getattr(outcome, mode).disturbed
    ]
    load = point.outcomes[0].forward.load_before
    return f"Load before: {load:.1f}. Disturbed by other processes: {', '.join(found) or 'none'}."


def _items(sentences: list[str]) -> str:
    return "\n".join(f"- {markdown(sentence)}" for sentence in sentences) or "Nothing was measured."


def _made(study: Study) -> str:
    commits = sorted({_short(point.commit or "unknown") for point in study.points})
    machine = study.machine
    return (
        f"Raw times and errors of every round: [{RESULTS}]({RESULTS}). Made by `python -m suites.studies.estimators`, "
        f"commit {', '.join(commits)}, on {markdown(str(machine.get('cpu')))} with {machine.get('torch_threads')} "
        f"threads, torch {markdown(str(machine.get('torch')))}."
    )


def _short(commit: str) -> str:
    revision, plus, dirty = commit.partition("+")
    return f"{revision[:12]}{plus}{dirty}"
