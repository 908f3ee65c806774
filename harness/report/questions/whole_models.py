"""How fast are whole models? Encoders of equal size side by side, and the share of a model's time that its attention
takes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.model.amounts import ABSENT, LEVEL_WORDS, Amount, Sentence, compose, counted, join
from harness.report.model.facets import Facets
from harness.report.model.figures import Figure, Styles, Trace, escape_text, estimate_traces, figure, length_axis
from harness.report.model.page_parts import Evidence, Plot, Section, build_section
from harness.report.model.records_table import (
    NO_ATTENTION,
    YOSO_SAMPLING,
    ReportRow,
    by_facets,
    per_instance_suffix,
    sequence_lengths,
    time_words,
    times_by_length,
    undisturbed_first,
)
from harness.report.model.tables import Cell, Table, table_with_facets
from harness.report.questions.reference_times import REFERENCES, RelativeTime, kernel_tie, relative_time
from harness.statistics import intervals

WITHIN_NOISE = "within noise"
_BERT = "bert ·"
"""How the base series of BERT's models begins."""
_ERRORS = Sentence("Errors inside whole models were not measured.")


@dataclass(frozen=True)
class ModelTime:
    """The time of a whole model with one attention at one length.

    Attributes:
        share: the share of the time that the attention takes; None where it is within noise or nothing can be split.
        within_noise: whether the share is within noise.
        disturbance: how other processes disturbed the time, None where they did not; such a time is not split.
    """

    series: str
    attention: str
    time: Amount
    share: Amount | None
    within_noise: bool
    memory: Amount | None
    disturbance: str | None

    def as_json(self) -> dict[str, Any]:
        """The time for the page's script."""
        return {
            "series": self.series,
            "attention": self.attention,
            "time": self.time.as_json(),
            "share": self.share.as_json() if self.share else None,
            "withinNoise": self.within_noise,
            "memory": self.memory.as_json() if self.memory else None,
            "disturbance": self.disturbance,
        }


@dataclass(frozen=True)
class ModelTimes:
    """The times of whole models at one length, and of the model without attention where it was timed undisturbed.

    ``base_disturbance`` is how other processes disturbed the time without attention, where there is no other.
    """

    length: Amount
    base: Amount | None
    base_disturbance: str | None
    rows: list[ModelTime]

    @property
    def is_split(self) -> bool:
        """Whether the time of some model was split into attention and the rest."""
        return any(row.share or row.within_noise for row in self.rows)

    def as_json(self) -> dict[str, Any]:
        """The times for the page's script."""
        return {
            "length": self.length.as_json(),
            "base": self.base.as_json() if self.base else None,
            "rows": [row.as_json() for row in self.rows],
        }


@dataclass(frozen=True)
class WholeModel:
    """The times of one model in one pass, with each attention and at each length."""

    id: str
    facets: dict[str, str]
    pass_words: str
    heading: str
    finding: Sentence
    lengths: list[ModelTimes]

    def as_json(self) -> dict[str, Any]:
        """The model for the page's script."""
        return {
            "id": self.id,
            "facets": self.facets,
            "pass": self.pass_words,
            "heading": self.heading,
            "finding": self.finding.as_json(),
            "lengths": [times.as_json() for times in self.lengths],
        }


def whole_models(evidence: Evidence) -> list[WholeModel]:
    """Every model in every pass in which some time was measured."""
    found: list[WholeModel] = []
    for facets, group in by_facets(evidence.rows, "model").items():
        lengths = _times_by_length(group)
        if not lengths:
            continue
        words = dict(facets)
        pass_words = words.pop("Pass")
        found.append(
            WholeModel(
                f"model-{len(found)}",
                words,
                pass_words,
                f"Whole models: {words['Model']}, {pass_words}{per_instance_suffix(group)}",
                _finding(group, lengths),
                lengths,
            )
        )
    return found


def _times_by_length(rows: Sequence[ReportRow]) -> list[ModelTimes]:
    """The times at each length, the fastest first, of one family: other families are models of their own."""
    base = _times_without_attention(rows)
    disturbed = {row.seq_len: row.disturbance for row in rows if row.base_series == NO_ATTENTION and row.time}
    found = []
    for length in sequence_lengths(rows):
        timed = [row for row in rows if row.seq_len == length and row.time and _can_be_split(row)]
        if timed:
            times = [_model_time(row, row.time, base.get(length)) for row in timed if row.time]
            amount = Amount.of_estimate(base[length], "s") if length in base else None
            by_time = sorted(times, key=lambda each: (each.time.value, each.series))
            why_not = None if length in base else disturbed.get(length)
            found.append(ModelTimes(Amount(length, "tokens"), amount, why_not, by_time))
    return found


def _model_time(row: ReportRow, time: intervals.Estimate, base: intervals.Estimate | None) -> ModelTime:
    can_be_split = base is not None and row.disturbance is None
    share = attention_share(time, base) if base is not None and can_be_split else None
    return ModelTime(
        series=row.series,
        attention=row.record.spec.attention,
        time=Amount.of_estimate(time, "s"),
        share=Amount.of_estimate(share, "fraction") if share else None,
        within_noise=can_be_split and share is None,
        memory=Amount(row.peak_bytes, "B") if row.peak_bytes is not None else None,
        disturbance=row.disturbance,
    )


def _finding(rows: Sequence[ReportRow], lengths: Sequence[ModelTimes]) -> Sentence:
    """What attention takes at the longest length that is split, how models compare there, and what is not split."""
    split = [times for times in lengths if times.is_split]
    shown = split[-1] if split else lengths[-1]
    parts = [share_finding(shown)] if split else []
    compared = _comparison(rows, int(shown.length.value))
    if compared is not None:
        parts.append(compose("At {} tokens {}", shown.length, compared))
    parts += _not_split(lengths)
    return join([*parts, _ERRORS], " ")


def _not_split(lengths: Sequence[ModelTimes]) -> list[Sentence]:
    """At which lengths no time is split, one sentence for each reason."""
    reasons: dict[str, list[Amount]] = {}
    for times in lengths:
        if not times.is_split:
            reason = "none without attention was timed there"
            if times.base_disturbance is not None:
                reason = "other processes disturbed the time without attention there"
            elif times.base is not None:
                reason = "other processes disturbed the times with attention there"
            reasons.setdefault(reason, []).append(times.length)
    return [compose("Not split at {}: {}.", join(found), reason) for reason, found in reasons.items()]


def share_finding(times: ModelTimes) -> Sentence:
    """The smallest and the largest share of attention at one length, and how many are within noise."""
    shares = sorted(
        ((row.share, row.series) for row in times.rows if row.share), key=lambda pair: (pair[0].value, pair[1])
    )
    noisy = sum(row.within_noise for row in times.rows)
    counts = Amount(noisy, "count"), Amount(len(shares) + noisy, "count")
    if not shares:
        models = counted(noisy, "{} model", "{} models")
        return compose("At {} tokens what attention adds is within noise in {} of {}.", times.length, counts[0], models)
    (least, least_series), (most, most_series) = shares[0], shares[-1]
    span = _named_share(most, most_series)
    if len(shares) > 1:
        span = compose("{} to {}", _named_share(least, least_series), span)
    noise = compose("; within noise in {} of {}", *counts) if noisy else ""
    return compose("At {} tokens attention takes {} of the time{}.", times.length, span, noise)


def _named_share(share: Amount, series: str) -> Sentence:
    return compose("{} ({})" if share.low is not None else "{} ({}, timed only once)", share, series)


def share_words(share: Amount) -> Amount | Sentence:
    """A share with its interval, and with a word where it has none because one of its two times has one sample."""
    return share if share.low is not None else compose("{} (timed only once)", share)


def _comparison(rows: Sequence[ReportRow], length: int) -> Sentence | None:
    """The model with YOSO, or else the fastest one, compared with that of a reference at one length."""
    at_length = _at_length(rows, length)
    at_length.pop(NO_ATTENTION, None)
    reference = next((at_length[name] for name in REFERENCES if name in at_length), None)
    other = None if reference is None else _most_interesting(at_length, reference)
    if reference is None or other is None:
        return None
    relative = relative_time(other, reference, kernel_tie(rows, _pass_of(rows)), list(at_length.values()))
    if relative.order in ("faster", "slower") and relative.ratio is not None:
        template = "with {} the model takes {} of the time with {}."
        share = Amount(relative.ratio.value, "fraction", relative.ratio.low, relative.ratio.high)
        return compose(template, other.series, share, reference.series)
    return compose("with {}: {}.", other.series, relative.words)


def _at_length(rows: Sequence[ReportRow], length: int) -> dict[str, ReportRow]:
    """The row of each series with a time at one length; an undisturbed one where there is one."""
    found: dict[str, ReportRow] = {}
    for row in undisturbed_first(rows):
        if row.seq_len == length:
            found.setdefault(row.series, row)
    return found


def _most_interesting(rows: dict[str, ReportRow], reference: ReportRow) -> ReportRow | None:
    """The row of YOSO, or else the fastest other one, of those whose time was not disturbed where there are any."""
    others = [row for row in rows.values() if row is not reference]
    return min(
        others,
        key=lambda row: (row.series != YOSO_SAMPLING, row.disturbance is not None, row.time.value if row.time else 0.0),
        default=None,
    )


def _pass_of(rows: Sequence[ReportRow]) -> str:
    return dict(rows[0].facets)["Pass"]


def model_section(evidence: Evidence) -> Section:
    """Models of equal size, compared with BERT."""
    return build_section(
        "rivals", "Models of equal size", rivals_finding(evidence.rows),
        "The bare encoder of each model, with the same layers, width, heads and vocabulary. Square brackets hold the "
        f"{LEVEL_WORDS} bootstrap interval. Errors inside whole models were not measured.",
        [model_table(evidence.rows)],
    )  # fmt: skip


def rivals_finding(rows: Sequence[ReportRow]) -> Sentence | None:
    """How the time of YOSO's model, or of the fastest one, compares with BERT's at the longest length of both."""
    for facets, group in by_facets(rows, "model").items():
        lengths = [row.seq_len for row in group if row.base_series.startswith(_BERT) and row.time is not None]
        for length in sorted(set(lengths), reverse=True):
            at_length = _at_length(group, length)
            bert = _bert_of(list(at_length.values()))
            other = None if bert is None else _most_interesting(at_length, bert)
            if bert is None or other is None:
                continue
            relative = relative_time(other, bert, kernel_tie(group, _pass_of(group)), list(at_length.values()))
            verdict = Sentence(f": {relative.words}")
            if relative.order in ("faster", "slower") and relative.ratio is not None:
                verdict = compose(" takes {} times the time of {}", relative.ratio, bert.series)
            return compose(
                "At {} tokens, {}, {}{}; errors inside whole models were not measured.",
                Amount(length, "tokens"), dict(facets)["Pass"], other.series, verdict,
            )  # fmt: skip
    return Sentence("At no length were BERT and another model timed, so no model is compared with it.")


def _bert_of(rows: Sequence[ReportRow]) -> ReportRow | None:
    """BERT's model of those that are compared with one another."""
    return next((row for row in rows if row.base_series.startswith(_BERT)), None)


def _share_finding_of(rows: Sequence[ReportRow]) -> Sentence | None:
    """The shares at the longest length of the first setting that can be split."""
    for facets, group in by_facets(rows, "model").items():
        split = [times for times in _times_by_length(group) if times.is_split]
        if split:
            return compose("{}, {}: {}", dict(facets)["Model"], dict(facets)["Pass"], share_finding(split[-1]))
    return None


def model_table(rows: Sequence[ReportRow]) -> Table:
    """Bare encoders of equal size: every family and attention, with its time as a multiple of BERT's time."""
    cells: list[tuple[Facets, list[Cell]]] = []
    untimed = 0
    for facets, group in by_facets(rows, "model").items():
        if dict(facets)["Model"] != "encoder" or not any("·" in row.base_series for row in group):
            continue
        tie = kernel_tie(group, dict(facets)["Pass"])
        timed = {length: list(_at_length(group, length).values()) for length in sequence_lengths(group)}
        for row in sorted(group, key=lambda row: (row.seq_len, row.series)):
            count = row.record.parameters
            parameters: Cell = Amount(count, "count") if count else ABSENT
            memory: Cell = Amount(row.peak_bytes, "B") if row.peak_bytes is not None else ABSENT
            if row.time is None:
                untimed += 1
                continue
            others = timed[row.seq_len]
            time, multiple = time_words(row, row.time), _multiple(relative_time(row, _bert_of(others), tie, others))
            cells.append((facets, [Amount(row.seq_len, "tokens"), row.series, time, multiple, memory, parameters]))
    columns = ["Length", "Model", f"Time [{LEVEL_WORDS}]", "Multiple of BERT's time", "Peak memory", "Parameters"]
    note = compose("Left out: {} without a time.", Amount(untimed, "count")) if untimed else None
    return table_with_facets("", columns, cells, note=note)


def _multiple(relative: RelativeTime) -> Cell:
    """A time as a multiple of BERT's, or why there is none."""
    if relative.order == "no reference":
        return "BERT has no time"
    if relative.order == "reference":
        return Amount(1, "count")
    return relative.words if relative.ratio is None else relative.ratio


def share_section(evidence: Evidence) -> Section:
    """The share of a model's time that its attention takes."""
    return build_section(
        "share", "Attention's share", _share_finding_of(evidence.rows),
        "The part of the time that disappears when the attention is replaced by “none”, which mixes no tokens. It "
        "limits how much a faster attention can speed up the model.",
        [share_table(evidence.rows)],
    )  # fmt: skip


def attention_share(time: intervals.Estimate, base: intervals.Estimate) -> intervals.Estimate | None:
    """The share of a model's time that its attention takes: 1 minus the time without attention over the time with it.

    None where it is within noise: it is not above 0, its interval reaches 0, or the intervals of both times overlap.
    """
    rest = intervals.ratio(base, time)
    low, high = (None, None) if rest.low is None or rest.high is None else (1 - rest.high, 1 - rest.low)
    overlaps = time.low is not None and base.high is not None and time.low <= base.high
    if rest.value >= 1 or overlaps or (low is not None and low <= 0):
        return None
    return intervals.Estimate(1 - rest.value, low, high, rest.samples, 1 - rest.draws)


def attention_shares(rows: Sequence[ReportRow]) -> dict[str, dict[int, intervals.Estimate | None]]:
    """Attention's share of each model's time by series and length; None where it is within noise.

    Empty where no model ran without attention. A model of another family is a different model and has no share.
    """
    base = _times_without_attention(rows)
    shares: dict[str, dict[int, intervals.Estimate | None]] = {}
    for series, times in times_by_length(row for row in rows if _can_be_split(row)).items():
        for length, time in times.items():
            if length in base:
                shares.setdefault(series, {})[length] = attention_share(time, base[length])
    return shares


def _times_without_attention(rows: Sequence[ReportRow]) -> dict[int, intervals.Estimate]:
    found = times_by_length(row for row in rows if row.base_series == NO_ATTENTION)
    return {length: time for times in found.values() for length, time in times.items()}


def _can_be_split(row: ReportRow) -> bool:
    """Whether the model differs from the one without attention in its attention only."""
    return "·" not in row.base_series and row.base_series != NO_ATTENTION


def share_table(rows: Sequence[ReportRow]) -> Table:
    """Attention's share of the model's time, one row per series and length."""
    cells: list[tuple[Facets, list[Cell]]] = []
    for facets, group in by_facets(rows, "model").items():
        for series, shares in sorted(attention_shares(group).items()):
            for length, share in sorted(shares.items()):
                amount: Cell = WITHIN_NOISE if share is None else share_words(Amount.of_estimate(share, "fraction"))
                cells.append((facets, [series, Amount(length, "tokens"), amount]))
    return table_with_facets("", ["Attention", "Length", f"Share of the model's time [{LEVEL_WORDS}]"], cells)


def share_plot(rows: Sequence[ReportRow], styles: Styles) -> Plot:
    """Attention's share of the model's time against length."""
    return Plot(
        "share", "Attention's share of the model's time", share_figure(rows, styles), _noise_remarks(rows),
        _without_share(rows),
    )  # fmt: skip


def _without_share(rows: Sequence[ReportRow]) -> str:
    """Why there is no share to draw."""
    if attention_shares(rows):
        return "What attention adds is within noise in every model."
    if not any(row.base_series == NO_ATTENTION and row.time is not None for row in rows):
        return "The share needs the time of a model without attention: none was timed with the attention “none”."
    return "No length has an undisturbed time with attention and one with the attention “none”."


def _noise_remarks(rows: Sequence[ReportRow]) -> list[Sentence]:
    within = [share is None for shares in attention_shares(rows).values() for share in shares.values()]
    if not any(within):
        return []
    shares = counted(len(within), "{} share is", "{} shares are")
    return [compose("{} of {} within noise and not drawn.", Amount(sum(within), "count"), shares)]


def share_figure(rows: Sequence[ReportRow], styles: Styles) -> Figure:
    """Attention's share of the model's time against length, with intervals; a share within noise is not drawn."""
    data: list[Trace] = []
    for series, shares in sorted(attention_shares(rows).items()):
        drawn = {length: share for length, share in sorted(shares.items()) if share is not None}
        texts = [
            f"<b>{escape_text(series)}</b>, n = {length:,}"
            f"<br>attention takes {share_words(Amount.of_estimate(share, 'fraction'))} of the time"
            for length, share in drawn.items()
        ]
        if drawn:
            data += estimate_traces(series, styles, list(drawn), list(drawn.values()), texts)
    axis = {"title": {"text": "attention's share of the time"}, "tickformat": ".0%"}
    return figure(data, xaxis=length_axis([row.seq_len for row in rows]), yaxis=axis)


SECTIONS = {70: model_section, 80: share_section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
