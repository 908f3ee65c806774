"""What does one run say? The first paragraph of the report; a sentence is absent where its evidence is."""

from collections import Counter
from collections.abc import Sequence

from harness.report.model.amounts import LEVEL_WORDS, Amount, Sentence, compose, counted, join
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

_KINDS = {
    "operation": "of the attention alone",
    "model": "of whole models",
    "quality": "of errors",
    "task": "of trained models",
}
"""What the cases of each level are, as the end of "results ..."."""


def sentences(rows: Sequence[ReportRow], operation: OperationData | None) -> list[Sentence]:
    """What one run says, most important first; at least one sentence.

    Sentences about speed and memory are of the operations' setting with the most results, in its first pass with a
    time.

    Args:
        rows: of the run.
        operation: the attention alone in these rows, with the winners.
    """
    return [*(_from_results(rows, operation) or [_without_comparison(rows)]), *_disturbance_unknown(rows)]


def _disturbance_unknown(rows: Sequence[ReportRow]) -> list[Sentence]:
    """That nobody watched for other processes: without it the times would seem to be undisturbed."""
    timings = [row.record.timing for row in rows if row.record.timing is not None]
    is_known = any(timing.disturbed is not None for timing in timings) or any(row.record.machine_use for row in rows)
    if not timings or is_known:
        return []
    return [Sentence("Whether other processes disturbed these times was not recorded in this run.")]


def _without_comparison(rows: Sequence[ReportRow]) -> Sentence:
    """What there is where no other sentence has its evidence."""
    if not rows:
        return Sentence("This run has no records: nothing was measured, so there is nothing to compare.")
    results = Counter(row.kind for row in rows if row.is_ok)
    total = counted(len(rows), "{} case", "{} cases")
    if not results:
        outcomes = Counter(row.status for row in rows).most_common()
        parts = [compose("{} {}", Amount(count, "count"), STATUS_WORDS[status]) for status, count in outcomes]
        return compose("No case gave a result: of {}, {}.", Amount(len(rows), "count"), join(parts))
    parts = [compose("{} {}", Amount(count, "count"), _KINDS[kind]) for kind, count in results.most_common()]
    return compose("Of {} these gave a result: {}.", total, join(parts))


def _from_results(rows: Sequence[ReportRow], operation: OperationData | None) -> list[Sentence]:
    groups = by_facets(rows, "operation")
    from_training = [
        *approximation_error.sentences(rows),
        *trained_scores.sentences(rows),
        *attention_swaps.sentences(rows),
    ]
    if not groups or operation is None:
        return from_training
    timed = (item for item in groups.items() if any(row.time is not None for row in item[1]))
    first_facets, first_rows = next(timed, next(iter(groups.items())))
    setting = [facet for facet in first_facets if facet[0] != "Pass"]
    rows_by_pass = {
        dict(facets)["Pass"]: group for facets, group in groups.items() if all(facet in facets for facet in setting)
    }
    errors = SettingErrors(rows)
    first_pass = dict(first_facets)["Pass"]
    settings = [each for each in operation.settings if each.pass_ == first_pass and each.facets == dict(setting)]
    of_operations = [
        *speed.fastest_sentences(settings),
        *best_methods.within_sentences(settings, operation.inputs),
        *speed.crossover_sentences(rows_by_pass, errors),
        *memory_use.sentences(first_rows),
        *_without_result(first_rows),
    ]
    if not any(row.time is not None or row.peak_bytes is not None for row in first_rows):
        return [*of_operations, *from_training]
    about = compose(
        "Times and memory are of the attention alone: {}. Square brackets hold {} intervals {}.",
        ", ".join(value for _, value in setting),
        Amount(intervals.LEVEL, "fraction", text=LEVEL_WORDS),
        interval_scope(first_rows),
    )
    return [*of_operations, *from_training, about]


def _without_result(rows: Sequence[ReportRow]) -> list[Sentence]:
    """The attentions that gave a result at some length, but not at the longest."""
    longest = max(row.seq_len for row in rows)
    with_result = {row.series for row in rows if row.is_ok}
    failed = [row for row in rows if row.seq_len == longest and not row.is_ok and row.series in with_result]
    if not failed:
        return []
    parts = [f"{row.series} ({STATUS_WORDS[row.status]})" for row in failed]
    return [compose("At {} tokens these gave no result: {}.", Amount(longest, "tokens"), ", ".join(parts))]
