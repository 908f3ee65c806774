"""Several runs of one commit, machine and settings as one run: each of them is a round."""

from collections.abc import Sequence

from harness.core import comparability
from harness.core.record import Record, Run

DIRTY = "+dirty"
"""The end of a commit whose working tree had changes: two runs of it may be of different code."""


def as_rounds(runs: Sequence[Run]) -> Run:
    """One run with the records of all. A case that one of them did not begin is left out of it if another began it."""
    records = [record for run in runs for record in run.records]
    begun = {record.case_id for record in records if not record.not_begun}
    records = [record for record in records if not (record.not_begun and record.case_id in begun)]
    # Without a session: if these runs were interleaved with others, it was not with the other runs of a comparison.
    return runs[0].model_copy(update={"records": records, "session": None})


def merge_repeats(named: Sequence[tuple[str, Run]]) -> tuple[list[Run], list[str]]:
    """Merge runs that repeat an earlier one: equal in commit, machine, software and settings.

    A repeat adds its times. Errors and scores of models come from the same seeds in both, so they are kept once.

    Args:
        named: the runs with the names that the notices call them.

    Returns:
        The runs, in the order of the first of each; and a notice for all that were merged into one, and for each that
        is of the commit of an earlier one and was not.
    """
    groups: list[list[tuple[str, Run]]] = []
    notices = []
    for name, run in named:
        same_commit = [group for group in groups if _may_repeat(group[0][1], run)]
        reasons = [_why_apart(group, name, run) for group in same_commit]
        if None in reasons:
            same_commit[reasons.index(None)].append((name, run))
            continue
        if reasons:
            notices.append(
                f"{name} is of the same commit as {same_commit[0][0][0]}, but no repeat of it: {reasons[0]}."
            )
        groups.append([(name, run)])
    merged = [_repeats_words([name for name, _ in group]) for group in groups if len(group) > 1]
    return [_merged([run for _, run in group]) for group in groups], [*merged, *notices]


def _repeats_words(names: Sequence[str]) -> str:
    """Which runs repeat the first of these, in one notice."""
    first, *others, last = names
    about = "same commit, machine and settings"
    if not others:
        return f"{last} repeats {first}: {about}. It is a round of one run."
    return f"{', '.join(others)} and {last} repeat {first}: {about}. They are rounds of one run."


def _may_repeat(first: Run, other: Run) -> bool:
    is_known = first.commit is not None and not first.commit.endswith(DIRTY)
    are_compared = first.session is not None and first.session == other.session  # the two runs of harness ab
    return is_known and first.commit == other.commit and not are_compared


def _why_apart(group: Sequence[tuple[str, Run]], name: str, run: Run) -> str | None:
    """Why a run is not a repeat of those in a group; None where it is one."""
    first_name, first = group[0]
    for earlier_name, earlier in group:
        if run.records and earlier.records == run.records:
            return f"both {earlier_name} and {name} hold the same records"
    differences = comparability.run_differences(first, run, (first_name, name))
    records = {record.case_id: record for record in first.records}
    of_cases = (
        comparability.case_difference(records[record.case_id], record, (first_name, name))
        for record in run.records
        if record.case_id in records
    )
    different_case = next((difference for difference in of_cases if difference is not None), None)
    return "; ".join(differences) or different_case


def _merged(runs: Sequence[Run]) -> Run:
    """The runs as rounds, without a repeat of what is not timed."""
    if len(runs) == 1:
        return runs[0]
    merged = as_rounds(runs)
    seen: set[tuple[str, str]] = set()
    kept: list[Record] = []
    for record in merged.records:
        outcome = (record.case_id, record.status)
        if record.timing is not None or outcome not in seen:
            kept.append(record)
        seen.add(outcome)
    return merged.model_copy(update={"records": kept})
