"""Whether a comparison is fair: what its cases did not have in common, and what an attention does that it does not say.

A comparison is all records of one workload: equal specs but for the attention and its knobs (a measured model's family
and convolution count as its attention's). The facts are the records' own (``harness.core.record.Conditions``);
nothing is measured here.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.core.record import Conditions, Record
from harness.core.spec import AnySpec, ModelSpec, OperationSpec

_THE_ATTENTIONS_OWN = {"attention", "knobs"}
_THE_MODELS_OWN = {"family", "conv_window"}


@dataclass(frozen=True, order=True)
class Finding:
    """One thing that a reader must know before comparing ``attention`` with the others.

    ``name`` is a badge's label, ``reason`` a sentence, ``cases`` the ids of the records that it is true of.
    """

    name: str
    attention: str
    reason: str
    cases: tuple[str, ...]


@dataclass(frozen=True)
class _Rule:
    """A fact that all cases of a comparison should have alike."""

    name: str
    fact: Callable[[Record], Any]
    """None where the record does not know."""
    says: Callable[[Any], str]
    usual: Callable[[Iterable[Any]], Any]
    """Of the facts of a comparison, the one that the others are held against."""


def findings(records: Sequence[Record]) -> list[Finding]:
    """Everything that is unequal within the comparisons of ``records``, sorted; empty where nothing is.

    Args:
        records: of one run: other machines and settings of a run are not looked at.
    """
    comparisons: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        comparisons[_workload(record.spec)].append(record)
    found: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for compared in comparisons.values():
        measured = [record for record in compared if record.status == "ok"]
        for rule in _RULES:
            for record, reason in _unequal(rule, measured):
                found[rule.name, record.spec.attention, reason].add(record.case_id)
        for record in measured:
            if _simulated(record):
                reason = (
                    f"{_who(record)} counts fewer pairs than all, and formed an n x n tensor: its sparsity is masked"
                )
                found["dense-simulated sparsity", record.spec.attention, reason].add(record.case_id)
    for record, reason in _without_padding(records):
        found["no padding", record.spec.attention, reason].add(record.case_id)
    return sorted(Finding(*about, tuple(sorted(cases))) for about, cases in found.items())


def _workload(spec: AnySpec, **changes: Any) -> str:
    own = _THE_ATTENTIONS_OWN | (_THE_MODELS_OWN if isinstance(spec, ModelSpec) else set())
    return spec.model_copy(update=changes).model_dump_json(exclude=own)


def _unequal(rule: _Rule, measured: list[Record]) -> Iterable[tuple[Record, str]]:
    facts = [(record, fact) for record in measured if (fact := rule.fact(record)) is not None]
    if len({fact for _, fact in facts}) < 2:
        return
    usual = rule.usual(fact for _, fact in facts)
    for record, fact in facts:
        if fact != usual:
            yield record, f"{_who(record)} {rule.says(fact)}, where others {rule.says(usual)}"


def _who(record: Record) -> str:
    spec = record.spec
    if not isinstance(spec, ModelSpec):
        return spec.attention
    convolved = "" if spec.conv_window is None else f" with a convolution of {spec.conv_window} tokens"
    return f"{spec.attention} in {spec.family}{convolved}"


def _most(facts: Iterable[Any]) -> Any:
    """The most frequent; of several, the least."""
    counted = Counter(facts)
    return min(fact for fact, count in counted.items() if count == max(counted.values()))


def _condition(name: str) -> Callable[[Record], Any]:
    def fact(record: Record) -> Any:
        return None if record.conditions is None else getattr(record.conditions, name)

    return fact


def _parameters(record: Record) -> int | None:
    if record.conditions is not None:
        return record.conditions.parameters
    return record.parameters  # all that older records have, of a model


def _dtypes(record: Record) -> tuple[str, ...] | None:
    seen: Conditions | None = record.conditions
    return tuple(seen.dtypes) if seen is not None and seen.dtypes else None


def _threads(record: Record) -> int | None:
    return None if record.timing is None else record.timing.threads


def _copies(count: int) -> str:
    return f"made {count or 'no'} {'copy' if count == 1 else 'copies'} of its inputs' size in another layout"


_RULES = (
    _Rule("parameters", _parameters, lambda count: f"had {count:,} trainable parameters", _most),
    _Rule(
        "TF32", _condition("float32_matmul"), lambda word: f"multiplied float32 matrices at {word!r} precision", _most
    ),
    _Rule("dtype", _dtypes, lambda dtypes: f"computed in {' and '.join(dtypes)}", _most),
    _Rule("dropout", _condition("dropout"), lambda dropped: f"dropped {'at random' if dropped else 'nothing'}", _most),
    _Rule(
        "checkpointing",
        _condition("recomputes"),
        lambda again: f"{'computed forward operations again' if again else 'kept what it needed'} for backward",
        _most,
    ),
    _Rule("compiled", _condition("compiled"), lambda done: f"ran {'compiled' if done else 'as it is written'}", _most),
    _Rule("layout copies", _condition("layout_copies"), _copies, min),
    _Rule("threads", _threads, lambda count: f"ran on {count} threads", _most),
)


def _simulated(record: Record) -> bool:
    """Whether it claims fewer products than dense attention has, and yet has a tensor of all pairs."""
    spec, seen = record.spec, record.conditions
    if not isinstance(spec, OperationSpec) or seen is None or not seen.all_pairs or record.work is None:
        return False
    claimed = sum(amount for ceiling, amount in record.work.items() if ceiling.startswith("matmul"))
    products = 7 if spec.mode == "forward_backward" else 2
    return claimed < 2 * products * spec.batch * spec.heads * spec.seq_len**2 * spec.head_dim


def _without_padding(records: Sequence[Record]) -> Iterable[tuple[Record, str]]:
    """Records of whole sequences, of attentions that could not run the same sequences padded."""
    refused: dict[tuple[str, str], Record] = {}
    for record in records:
        if isinstance(record.spec, OperationSpec) and record.spec.padding and record.status == "unsupported":
            refused[record.spec.attention, _workload(record.spec, padding=0.0)] = record
    for record in records:
        padded = refused.get((record.spec.attention, _workload(record.spec)))
        if padded is not None and record.status == "ok":
            yield record, f"{_who(record)} was measured on whole sequences only; padded ones: {padded.reasons[0]}"
