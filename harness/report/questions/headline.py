"""What does one run say? The first paragraph of the report; a sentence is absent where its evidence is."""

from collections.abc import Sequence

from harness.report.model.amounts import LEVEL_WORDS, Amount, Sentence, compose
from harness.report.model.page_data import OperationData
from harness.report.model.records_table import STATUS_WORDS, ReportRow, by_facets, interval_scope
from harness.report.questions import (
    approximation_error,
    attention_swaps,
    best_methods,
    memory_use,
    speed,
    trained_scores,
)
from harness.report.questions.setting_errors import SettingErrors
from harness.statistics import intervals


def sentences(rows: Sequence[ReportRow], operation: OperationData | None) -> list[Sentence]:
    """What one run says, most important first; empty where it says nothing.

    Sentences about speed and memory are of the operations' setting with the most results, in its first pass.

    Args:
        rows: of the run.
        operation: the attention alone in these rows, with the winners.
    """
    groups = by_facets(rows, "operation")
    from_training = [
        *approximation_error.sentences(rows),
        *trained_scores.sentences(rows),
        *attention_swaps.sentences(rows),
    ]
    if not groups or operation is None:
        return from_training
    first_facets, first_rows = next(iter(groups.items()))
    setting = [facet for facet in first_facets if facet[0] != "Pass"]
    rows_by_pass = {
        dict(facets)["Pass"]: group for facets, group in groups.items() if all(facet in facets for facet in setting)
    }
    errors = SettingErrors(rows)
    first_pass = dict(first_facets)["Pass"]
    settings = [each for each in operation.settings if each.pass_ == first_pass and each.facets == dict(setting)]
    return [
        *speed.fastest_sentences(settings),
        *best_methods.within_sentences(settings, operation.inputs),
        *speed.crossover_sentences(rows_by_pass, errors),
        *memory_use.sentences(first_rows),
        *_without_result(first_rows),
        *from_training,
        compose(
            "Times and memory are of the attention alone: {}. Square brackets hold {} intervals {}.",
            ", ".join(value for _, value in setting),
            Amount(intervals.LEVEL, "fraction", text=LEVEL_WORDS),
            interval_scope(first_rows),
        ),
    ]


def _without_result(rows: Sequence[ReportRow]) -> list[Sentence]:
    """The attentions that gave a result at some length, but not at the longest."""
    longest = max(row.seq_len for row in rows)
    with_result = {row.series for row in rows if row.is_ok}
    failed = [row for row in rows if row.seq_len == longest and not row.is_ok and row.series in with_result]
    if not failed:
        return []
    parts = [f"{row.series} ({STATUS_WORDS[row.status]})" for row in failed]
    return [compose("At {} tokens these gave no result: {}.", Amount(longest, "tokens"), ", ".join(parts))]
