"""Records as a pandas table: one row a record, failures included, with what the report groups and labels by.

Columns:
    run: place of its run. record: the ``Record``. kind, case_id, seq_len, status, kernel: its fields.
    base: the attention, with the family before it where a model brings its own. series: the base, with the knobs that
    tell two rows of one place apart. exact: computes softmax attention exactly.
    facets: what a plot must hold equal, by name, as a tuple of (name, value) pairs.
    per: what time and peak_bytes are of: a ``call``, or an ``instance`` at the largest batch that fits, where batches
    differ: the call's over its batch, as in the YOSO paper's protocol. Equal in rows of equal facets.
    time: ``Estimate`` of seconds, or None. clock: ``device`` or ``wall``, one for all rows of equal facets.
    peak_bytes: float, NaN where not measured; input_bytes, also NaN then, are the whole call's.
"""

from collections import namedtuple
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.core.record import Memory, Record, Run
from harness.core.spec import ModelSpec, Scalar
from harness.report.model.facets import facets_of
from harness.report.model.sentence import Sentence, say
from harness.report.model.units import Amount
from harness.statistics import intervals

Facets = tuple[tuple[str, str], ...]

COLUMNS = (
    "run",
    "record",
    "kind",
    "case_id",
    "seq_len",
    "status",
    "kernel",
    "base",
    "series",
    "exact",
    "facets",
    "per",
    "time",
    "clock",
    "peak_bytes",
    "input_bytes",
)
Row = namedtuple("Row", COLUMNS)  # type: ignore[misc]  # the fields are the table's columns
STATUS_WORDS = {
    "unsupported": "unsupported",
    "incorrect": "incorrect",
    "oom": "out of memory",
    "timeout": "timed out",
    "crashed": "crashed",
    "diverged": "diverged",
}


def frame(*runs: Run) -> pd.DataFrame:
    """The table of one run or several; without records it is empty, with the same columns.

    Of several runs each row has its run's label as its first facet, so that no plot mixes two.
    """
    names = labels(runs) if len(runs) > 1 else [""]
    rows = [
        _row(record, place, name)
        for place, (run, name) in enumerate(zip(runs, names, strict=True))
        for record in run.records
    ]
    for row, label, time in zip(rows, _series(rows), _times(rows), strict=True):
        row["series"] = label
        row["time"], row["clock"] = time or (None, None)
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    table["peak_bytes"] = table["peak_bytes"].astype(float)
    table["input_bytes"] = table["input_bytes"].astype(float)
    return table


def labels(runs: Sequence[Run]) -> list[str]:
    """What tells the runs apart: machine, time and commit; equal ones are numbered."""
    plain = [f"{machine(run)}, {run.started[:16]}, {(run.commit or 'commit not known')[:10]}" for run in runs]
    return [f"{name} ({plain[: i + 1].count(name)})" if plain.count(name) > 1 else name for i, name in enumerate(plain)]


def machine(run: Run) -> str:
    """The device that a run measured, in a word."""
    return str(run.machine.get("cuda_device") or run.machine.get("cpu") or "machine not named")


def each(table: pd.DataFrame) -> list[Any]:
    """The rows as named tuples; their fields are the columns. Quicker than itertuples: plots ask thousands of times."""
    return [Row(*values) for values in zip(*(table[name] for name in COLUMNS), strict=True)]


def of_instance(rows: pd.DataFrame) -> str:
    """What a title adds to time and memory where they are an instance's; empty where they are a call's."""
    return " an instance" if (rows["per"] == "instance").any() else ""


def at_batch(row: Any) -> str | Sentence:
    """The series, with the batch that was found for it where one was: for what is said of whole calls."""
    batch = row.record.batch
    return str(row.series) if batch is None else say("{}, batch {}", row.series, Amount(batch, "count"))


def is_exact_softmax(record: Record) -> bool:
    """Whether the case's attention computes softmax attention exactly, as its plugin declared when it was measured.

    Records that are older than the field ``exact_softmax`` have None there. For them the attention's name decides, by
    the rule from when they were published, so that published runs render unchanged. That rule lacks ``flash_attn``,
    ``flex`` and all attentions of other packages.
    """
    if record.exact_softmax is not None:
        return record.exact_softmax
    attention = record.spec.attention
    return attention in {"softmax", "sdpa"} or attention.startswith(("sdpa_", "xformers_"))


def memory_of(record: Record) -> Memory | None:
    """The memory of a call; of a trained task that of one forward and backward pass of a batch."""
    return record.task.train_memory if record.task else record.memory


def _row(record: Record, run: int, label: str) -> dict[str, Any]:
    spec = record.spec
    facets = {"Run": label, **facets_of(record)} if label else facets_of(record)
    own = isinstance(spec, ModelSpec) and spec.family != "yoso"
    batch = _divisor(record)
    measured = memory_of(record) if record.status == "ok" else None
    return {
        "run": run,
        "record": record,
        "kind": spec.kind,
        "case_id": record.case_id,
        "seq_len": spec.seq_len,
        "status": record.status,
        "kernel": record.kernel,
        "base": f"{spec.family} · {spec.attention}" if isinstance(spec, ModelSpec) and own else spec.attention,
        "exact": is_exact_softmax(record),
        "facets": tuple(facets.items()),
        "per": "instance" if _at_largest_batch(record) else "call",
        "peak_bytes": measured.peak_bytes / batch if measured and batch else np.nan,
        "input_bytes": measured.input_bytes if measured else np.nan,
    }


def _at_largest_batch(record: Record) -> bool:
    return isinstance(record.spec, ModelSpec) and record.spec.largest_batch


def _divisor(record: Record) -> int | None:
    """What a call's time and memory are divided by; None where the batch was to be found and is not known."""
    return record.batch if _at_largest_batch(record) else 1


def _knobs(record: Record) -> dict[str, Scalar | None]:
    spec = record.spec
    window = {"conv_window": spec.conv_window} if isinstance(spec, ModelSpec) else {}
    return {**window, **spec.knobs, **record.knobs, "seed": spec.seed}


def _is_set(record: Record, knob: str) -> bool:
    """By the case itself, and not by the attention's default."""
    return knob in record.spec.knobs or knob == "seed" or knob not in record.knobs


def _series(rows: list[dict[str, Any]]) -> list[str]:
    """The base, with the knobs in which records of one place differ: equal facets and length.

    A model's ``conv_window`` counts as a knob, and is in the label of those that have a convolution.
    A knob that only follows the length, as ``hash_code_len`` = log2(n) does, makes no series of its own, and records
    that leave it to the attention stay one series beside those that set it; nor does the budget of a quality
    record, which is that plot's axis.
    """
    seen: dict[tuple[object, ...], set[Scalar | None]] = {}
    left: dict[tuple[object, ...], set[Scalar | None]] = {}
    for row in rows:
        record: Record = row["record"]
        for name, value in _knobs(record).items():
            place = (row["kind"], row["base"], name, row["facets"], row["seq_len"])
            seen.setdefault(place, set()).add(value)
            if not _is_set(record, name):
                left.setdefault(place, set()).add(value)
    differing = {place[:3] for place, values in seen.items() if len(values) > 1}
    differing_though_left = {place[:3] for place, values in left.items() if len(values) > 1}
    labels = []
    for row in rows:
        kind, base = row["kind"], row["base"]
        words = [
            f"{name}={value}"
            for name, value in sorted(_knobs(row["record"]).items())
            if (kind, base, name) in (differing if _is_set(row["record"], name) else differing_though_left)
            and not (row["record"].quality and name == row["record"].quality.budget)
            and value is not None
        ]
        labels.append(f"{base} ({', '.join(words)})" if words else base)
    return labels


def _times(rows: list[dict[str, Any]]) -> list[tuple[intervals.Estimate, str] | None]:
    """Each row's time and clock: device time where every timed row of a plot has it, wall time otherwise."""
    records: list[Record] = [row["record"] for row in rows]
    places = [(row["kind"], row["facets"]) for row in rows]
    wall_only = {
        place
        for record, place in zip(records, places, strict=True)
        if record.timing is not None and record.timing.device_seconds is None
    }
    rng = np.random.default_rng(0)
    times: list[tuple[intervals.Estimate, str] | None] = []
    for record, place in zip(records, places, strict=True):
        timing, batch = record.timing, _divisor(record)
        if timing is None or batch is None:
            times.append(None)
            continue
        on_wall = place in wall_only or timing.device_seconds is None
        seconds = timing.wall_seconds if on_wall else timing.device_seconds or []
        found = intervals.bootstrap_median([one / batch for one in seconds], rng)
        times.append((found, "wall" if on_wall else "device"))
    return times


def views(table: pd.DataFrame, kind: str, without: str | None = None) -> dict[Facets, pd.DataFrame]:
    """The rows of a kind by their facets, all or but for one: what may stand in one plot.

    The setting with most results comes first, and in it the bare encoder and the forward pass.
    """
    groups: dict[Facets, list[int]] = {}
    for place, (facets, its_kind) in enumerate(zip(table["facets"], table["kind"], strict=True)):
        if its_kind == kind:
            kept = tuple(pair for pair in facets if pair[0] != without)
            groups.setdefault(kept, []).append(place)
    found = {facets: table.iloc[places] for facets, places in groups.items()}
    results: dict[Facets, int] = {}
    for facets, rows in found.items():
        results[_setting(facets)] = results.get(_setting(facets), 0) + int((rows["status"] == "ok").sum())

    def order(facets: Facets) -> tuple[object, ...]:
        words = dict(facets)
        model, pass_ = words.get("Model", ""), words.get("Pass", "")
        return (-results[_setting(facets)], _setting(facets), model != "encoder", model, pass_ != "forward", pass_)

    return {facets: found[facets] for facets in sorted(found, key=order)}


def _setting(facets: Facets) -> Facets:
    return tuple(pair for pair in facets if pair[0] not in {"Model", "Pass"})


def times_by_length(rows: pd.DataFrame) -> dict[str, dict[int, intervals.Estimate]]:
    """Time by length, by series; one view's rows. Of two cases with one label and length the first counts."""
    found: dict[str, dict[int, intervals.Estimate]] = {}
    for row in each(rows):
        if row.time is not None:
            found.setdefault(row.series, {}).setdefault(row.seq_len, row.time)
    return found
