"""What stands under a plot: the cases that it cannot draw, and how many they are."""

import pandas as pd

from harness.report.model.records_table import STATUS_WORDS, each
from harness.report.model.sentence import Sentence, say
from harness.report.model.units import Amount
from harness.report.questions import budgets


def of_time(rows: pd.DataFrame) -> list[Sentence]:
    """What is unsupported at every length, which the strip of failures leaves out; and cases without a time."""
    ran = set(rows.loc[rows["status"] != "unsupported", "series"])
    names = sorted(set(rows["series"]) - ran)
    said = [say("Unsupported at every length (reasons below): {}.", ", ".join(names))] if names else []
    untimed = int((rows["status"] == "ok").sum() - rows["time"].notna().sum())
    return said + ([say("Cases with a result but no time: {}.", Amount(untimed, "count"))] if untimed else [])


def of_memory(rows: pd.DataFrame) -> list[Sentence]:
    """Cases without a place on a log axis, and cases without a measurement."""
    zero = sorted(rows.loc[rows["peak_bytes"] == 0, "case_id"])
    none = int((rows["status"] == "ok").sum() - rows["peak_bytes"].notna().sum())
    said = []
    if zero:
        said.append(say("A peak of {} bytes has no place on a log axis: {}.", Amount(0, "count"), ", ".join(zero)))
    if none:
        said.append(say("Cases with a result but no memory measurement: {}.", Amount(none, "count")))
    return said


def failed(rows: pd.DataFrame) -> list[Sentence]:
    """Failures where a plot has no length axis to put them on."""
    names = sorted({f"{row.series} ({STATUS_WORDS[row.status]})" for row in each(rows) if row.status != "ok"})
    return [say("Without a result (reasons below): {}.", ", ".join(names))] if names else []


def without_budget(rows: pd.DataFrame, what: str, drawn: set[str]) -> list[Sentence]:
    """Why a result of the error of ``what`` is no point of a plot against the budget."""
    measured = [row for row in each(rows) if row.status == "ok" and row.record.quality]
    return [
        say(
            "{} is not drawn: {} against {}.",
            row.series, budgets.error_words(row.record.quality.errors[what]), row.record.quality.reference,
        )
        for row in measured
        if row.series not in drawn and row.record.quality.errors.get(what)
    ]  # fmt: skip
