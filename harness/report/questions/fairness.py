"""Is the comparison fair? Conditions that differed between cases that are compared with one another, sparsity that an
attention only simulates, and what an attention changed in its process.

A comparison is all records of one workload: specs that are equal except for the attention and its knobs (the family and
the convolution of a timed model count as its attention's). The conditions come from the records
(``harness.core.record.Conditions``); nothing is measured here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.record import Conditions, Record
from harness.core.spec import AnySpec, ModelSpec, OperationSpec
from harness.report.model.amounts import Amount, Sentence, compose, join
from harness.report.model.facets import Facets
from harness.report.model.page_parts import Evidence, Section, build_section
from harness.report.model.tables import Cell, table_with_facets

_ATTENTION_FIELDS = {"attention", "knobs"}
_MODEL_FIELDS = {"family", "conv_window"}
"""Fields of a spec in which the cases of one comparison may differ."""


@dataclass(frozen=True, order=True)
class FairnessFinding:
    """Something that a reader must know before comparing ``attention`` with the others.

    ``name`` is a short label, ``reason`` a sentence, ``cases`` are the ids of the records that it applies to.
    """

    name: str
    attention: str
    reason: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class _Rule:
    """A condition that should be equal in all cases of a comparison.

    Attributes:
        value: the value of the condition in a record, None where the record does not contain it.
        describe: the value as the end of a sentence.
        expected: of the values in a comparison, the one that the others are compared with.
    """

    name: str
    value: Callable[[Record], Any]
    describe: Callable[[Any], str]
    expected: Callable[[Iterable[Any]], Any]


def findings(records: Sequence[Record]) -> list[FairnessFinding]:
    """Everything that is unequal within the comparisons of ``records``, and what attentions changed in their process.

    Sorted; empty where everything is equal and nothing was changed.

    Args:
        records: of one run, because the machine and the settings of a run are not compared.
    """
    comparisons: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        comparisons[_workload(record.spec)].append(record)
    cases: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for compared in comparisons.values():
        measured = [record for record in compared if record.status == "ok"]
        for rule in _RULES:
            for record, reason in _unequal(rule, measured):
                cases[rule.name, record.spec.attention, reason].add(record.case_id)
        for record in measured:
            if _only_simulates_sparsity(record):
                reason = (
                    f"{_subject(record)} counts fewer pairs than all, but formed an n x n tensor: "
                    "its sparsity is only a mask"
                )
                cases["dense-simulated sparsity", record.spec.attention, reason].add(record.case_id)
    for record in records:
        for sentence in record.findings:
            cases["process", record.spec.attention, f"{_subject(record)}: {sentence}"].add(record.case_id)
    for record, reason in _measured_without_padding_only(records):
        cases["no padding", record.spec.attention, reason].add(record.case_id)
    return sorted(FairnessFinding(*key, tuple(sorted(case_ids))) for key, case_ids in cases.items())


def section(evidence: Evidence) -> Section:
    """The findings of every run."""
    cells: list[tuple[Facets, list[Cell]]] = []
    unequal: dict[str, set[str]] = {}
    for run, label in zip(evidence.runs, evidence.labels, strict=True):
        facets: Facets = (("Run", label),) if len(evidence.runs) > 1 else ()
        for finding in findings(run.records):
            unequal.setdefault(finding.name, set()).add(finding.attention)
            count = Amount(len(finding.cases), "count")
            cells.append((facets, [finding.name, finding.attention, finding.reason, count]))
    attentions = {record.spec.attention for run in evidence.runs for record in run.records if record.status == "ok"}
    return build_section(
        "fairness", "Is it fair?", _summary(unequal, attentions),
        "Conditions that differed between cases that are compared with one another, as observed while the cases ran, "
        "and what an attention changed in its process.",
        [table_with_facets("", ["Unequal", "Attention", "Why", "Cases"], cells)],
    )  # fmt: skip


def _summary(unequal: dict[str, set[str]], measured: set[str]) -> Sentence:
    """How many attentions each condition concerns."""
    parts = [compose("{} {}", name, Amount(len(attentions), "count")) for name, attentions in unequal.items()]
    template = "Unequal, with the number of attentions: {}; of {} measured."
    return compose(template, join(parts), Amount(len(measured), "count"))


def _workload(spec: AnySpec, **changes: Any) -> str:
    ignored = _ATTENTION_FIELDS | (_MODEL_FIELDS if isinstance(spec, ModelSpec) else set())
    return spec.model_copy(update=changes).model_dump_json(exclude=ignored)


def _unequal(rule: _Rule, measured: list[Record]) -> Iterable[tuple[Record, str]]:
    values = [(record, value) for record in measured if (value := rule.value(record)) is not None]
    if len({value for _, value in values}) < 2:
        return
    expected = rule.expected(value for _, value in values)
    for record, value in values:
        if value != expected:
            yield record, f"{_subject(record)} {rule.describe(value)}, where others {rule.describe(expected)}"


def _subject(record: Record) -> str:
    spec = record.spec
    if not isinstance(spec, ModelSpec):
        return spec.attention
    convolved = "" if spec.conv_window is None else f" with a convolution of {spec.conv_window} tokens"
    return f"{spec.attention} in {spec.family}{convolved}"


def _most_frequent(values: Iterable[Any]) -> Any:
    """The most frequent value; of several equally frequent ones, the smallest."""
    counts = Counter(values)
    return min(value for value, count in counts.items() if count == max(counts.values()))


def _condition(name: str) -> Callable[[Record], Any]:
    def value(record: Record) -> Any:
        return None if record.conditions is None else getattr(record.conditions, name)

    return value


def _parameters(record: Record) -> int | None:
    if record.conditions is not None:
        return record.conditions.parameters
    return record.parameters  # older records have only this, for models


def _dtypes(record: Record) -> tuple[str, ...] | None:
    conditions: Conditions | None = record.conditions
    return tuple(conditions.dtypes) if conditions is not None and conditions.dtypes else None


def _threads(record: Record) -> int | None:
    return None if record.timing is None else record.timing.threads


def _describe_copies(count: int) -> str:
    return f"made {count or 'no'} input-sized {'copy' if count == 1 else 'copies'} in another layout"


_RULES = (
    _Rule("parameters", _parameters, lambda count: f"had {count:,} trainable parameters", _most_frequent),
    _Rule(
        "TF32",
        _condition("float32_matmul"),
        lambda word: f"multiplied float32 matrices at {word!r} precision",
        _most_frequent,
    ),
    _Rule("dtype", _dtypes, lambda dtypes: f"computed in {' and '.join(dtypes)}", _most_frequent),
    _Rule(
        "dropout",
        _condition("dropout"),
        lambda has_dropout: f"applied {'dropout' if has_dropout else 'no dropout'}",
        _most_frequent,
    ),
    _Rule(
        "checkpointing",
        _condition("recomputes"),
        lambda recomputes: (
            f"{'recomputed forward operations' if recomputes else 'kept all intermediate results'} for backward"
        ),
        _most_frequent,
    ),
    _Rule(
        "compiled",
        _condition("compiled"),
        lambda compiled: f"ran {'compiled' if compiled else 'without compilation'}",
        _most_frequent,
    ),
    _Rule("layout copies", _condition("layout_copies"), _describe_copies, min),
    _Rule("threads", _threads, lambda count: f"ran on {count} threads", _most_frequent),
)


def _only_simulates_sparsity(record: Record) -> bool:
    """Whether the attention claims fewer products than dense attention has, and yet formed a tensor of all pairs."""
    spec, conditions = record.spec, record.conditions
    if not isinstance(spec, OperationSpec) or conditions is None or not conditions.all_pairs or record.work is None:
        return False
    claimed = sum(amount for ceiling, amount in record.work.items() if ceiling.startswith("matmul"))
    products = 7 if spec.mode == "forward_backward" else 2
    return claimed < 2 * products * spec.batch * spec.heads * spec.seq_len**2 * spec.head_dim


def _measured_without_padding_only(records: Sequence[Record]) -> Iterable[tuple[Record, str]]:
    """Records without padding, of attentions that do not support the same sequences with padding."""
    unsupported: dict[tuple[str, str], Record] = {}
    for record in records:
        if isinstance(record.spec, OperationSpec) and record.spec.padding and record.status == "unsupported":
            unsupported[record.spec.attention, _workload(record.spec, padding=0.0)] = record
    for record in records:
        padded = unsupported.get((record.spec.attention, _workload(record.spec)))
        if padded is not None and record.status == "ok":
            yield record, f"{_subject(record)} was measured without padding only; with padding: {padded.reasons[0]}"


SECTIONS = {120: section}
"""The sections of this question by their place on the page; see ``harness.report.comparison``."""
