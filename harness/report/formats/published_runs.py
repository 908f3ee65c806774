"""The published runs: one folder per run, an index of all runs with a matrix and search, and one page per device."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import store
from harness.core.escaping import reordering_texts
from harness.core.record import Run
from harness.core.templates import environment
from harness.report.comparison import compare
from harness.report.formats import html
from harness.report.formats.runs_matrix import RunWinners, columns, winners
from harness.report.model.page_parts import Evidence
from harness.report.model.records_table import machine_name
from harness.report.model.style import DARK_PAGE, LIGHT_PAGE
from harness.report.questions import headline
from harness.report.questions.best_methods import ALLOWED_WORDS, RULE
from harness.report.questions.operation_page import operation_data

DEVICES = "devices"
READING = "reading.md"


class AlreadyPublished(ValueError):
    """The folder contains the data of another run, and published data is never rewritten."""


@dataclass(frozen=True)
class PublishedRun:
    """One entry of the index.

    Attributes:
        data, page: relative to the reports folder; the page may be missing.
        summary: what the run says in a sentence or two.
        winners: the run's row of the matrix; None where it did not time the attention alone.
        reordering: the names in it that would reorder the words around them (``escaping.reordering_texts``).
    """

    name: str
    data: str
    page: str | None
    device: str
    started: str
    profile: str
    commit: str
    cases: int
    summary: str
    winners: RunWinners | None
    reordering: list[str]


def publish(
    source: Path,
    reports: Path,
    name: str | None = None,
    reading: Path | None = None,
    as_json: Callable[[Run], str] | None = None,
) -> Path:
    """Add a run to ``reports``: its data unchanged, its page, the index and the page of its device.

    Args:
        source: the benchmark JSON or log of the run.
        reports: the folder of all published runs.
        name: name of the run's folder; by default made from device, profile and start.
        reading: a file with paragraphs about the run, separated by empty lines.
        as_json: writes a run as benchmark JSON; the data of a log is then published as that, so that whoever reads
            pytest-benchmark's JSON can read it.

    Returns:
        The run's folder.

    Raises:
        AlreadyPublished: the folder contains different data.
        StoreError: ``source`` is not a run.
        ValueError: ``name`` is not a plain folder name.
    """
    run = store.load(source)
    chosen = name if name is not None else slug(f"{machine_name(run)} {run.profile} {run.started[:16]}")
    if chosen != slug(chosen) or chosen == DEVICES:
        raise ValueError(f"name must be lower-case letters, digits and hyphens, and not {DEVICES!r}, got {chosen!r}")
    folder = reports / chosen
    is_converted = as_json is not None and source.suffix == ".jsonl"
    data = folder / ("run.json" if is_converted else "run" + "".join(source.suffixes[-1:]))
    content = as_json(run).encode() if as_json is not None and is_converted else source.read_bytes()
    others = [path for path in folder.glob("run.*") if path.read_bytes() != content] if folder.exists() else []
    if others:
        raise AlreadyPublished(
            f"{others[0]} contains another run, and published data is never rewritten; give another name"
        )
    # Before anything is written, so that no data is published without its page.
    kept = folder / READING
    about = reading or (kept if kept.exists() else None)
    page = html.render(compare([run], reading=paragraphs(about) if about else ()))
    words = None if reading is None else reading.read_bytes()
    folder.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        data.write_bytes(content)
    if words is not None:
        kept.write_bytes(words)
    (folder / "report.html").write_text(page, encoding="utf-8")
    write_index(reports)
    return folder


def paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is not in UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text in UTF-8, found other bytes at offset {error.start}") from error
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def write_index(reports: Path) -> Path:
    """Write ``index.html`` and the pages of the devices from the runs in the folder."""
    runs = published_runs(reports)
    by_device: dict[str, list[PublishedRun]] = {}
    for run in runs:
        by_device.setdefault(run.device, []).append(run)
    pages = {device: f"{DEVICES}/{slug(device)}.html" for device in by_device}
    (reports / DEVICES).mkdir(parents=True, exist_ok=True)
    for device, device_runs in by_device.items():
        (reports / pages[device]).write_text(_index_page(device, device_runs, {}, "../"), encoding="utf-8")
    text = _index_page("Published attention reports", runs, pages, "")
    index = reports / "index.html"
    index.write_text(text, encoding="utf-8")
    return index


def _index_page(title: str, runs: Sequence[PublishedRun], pages: Mapping[str, str], root: str) -> str:
    """The text of the index or of a device's page; ``root`` is the way to the reports folder."""
    rows = matrix_rows(runs)
    return (
        environment(html.TEMPLATES, [name for run in runs for name in run.reordering])
        .get_template("index.html")
        .render(
            title=title,
            runs=runs,
            pages=pages,
            root=root,
            rows=rows,
            columns=columns(row.winners for row in rows if row.winners is not None),
            allowed=ALLOWED_WORDS,
            rule=RULE,
            css=html.template_text("report.css") + html.template_text("index.css"),
            light=LIGHT_PAGE,
            dark=DARK_PAGE,
        )
    )


def matrix_rows(runs: Iterable[PublishedRun]) -> list[PublishedRun]:
    """Of each profile on each device the newest run that timed the attention alone, by device, the newest first.

    Args:
        runs: the newest first.
    """
    newest: dict[str, dict[str, PublishedRun]] = {}
    for run in runs:
        if run.winners is not None:
            newest.setdefault(run.device, {}).setdefault(run.profile, run)
    return [run for by_profile in newest.values() for run in by_profile.values()]


def published_runs(reports: Path) -> list[PublishedRun]:
    """Every run under ``reports``, newest first; files that are not runs are skipped, and named in one line.

    The log of a run whose JSON is beside it is skipped, too: it is there to be continued, and has the same records."""
    runs, left_out = [], []
    for path in sorted([*reports.glob("*/*.json"), *reports.glob("*/*.jsonl")]):
        if path.name.endswith(store.LOG_SUFFIX) and _json_beside(path).exists():
            continue
        try:
            run = store.load(path)
        except store.StoreError as error:
            left_out.append((path, error))
            continue
        runs.append(_published_run(run, path, reports))
    if len(left_out) == 1:
        store.to_stderr(f"left out of the index: {left_out[0][1]}")
    elif left_out:
        names = ", ".join(path.relative_to(reports).as_posix() for path, _ in left_out)
        store.to_stderr(f"left out of the index, because they are no runs: {names}")
    return sorted(runs, key=lambda run: (run.started, run.data), reverse=True)


def _json_beside(log: Path) -> Path:
    return log.with_name(log.name.removesuffix(store.LOG_SUFFIX) + ".json")


def _published_run(run: Run, path: Path, reports: Path) -> PublishedRun:
    candidates = [path.with_suffix(".html"), path.parent / "report.html"]
    page = next((file.relative_to(reports).as_posix() for file in candidates if file.exists()), None)
    evidence = Evidence.of_run(run)
    operation = operation_data(evidence)
    found = winners(operation)
    name = path.parent.name if path.stem == "run" else f"{path.parent.name}, {path.stem}"
    return PublishedRun(
        name=name,
        data=path.relative_to(reports).as_posix(),
        page=page,
        device=machine_name(run),
        started=run.started,
        profile=run.profile,
        commit=(run.commit or "not known")[:10],
        cases=len(run.records),
        summary=found.headline if found else " ".join(map(str, headline.sentences(evidence.rows, operation)[:2])),
        winners=found,
        reordering=reordering_texts(run.model_dump_json()),
    )


def slug(words: str) -> str:
    """Words as the name of a folder or file: lower-case letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "run"
