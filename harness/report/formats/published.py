"""The published runs: a folder a run, an index of all with search, and a page a device."""

import re
from dataclasses import dataclass
from pathlib import Path

from harness.core import store
from harness.core.record import Run
from harness.report.formats import html
from harness.report.model import comparison
from harness.report.model.records_table import frame, machine
from harness.report.questions import answer

DEVICES = "devices"
READING = "reading.md"


class AlreadyPublished(ValueError):
    """The folder holds another run's data, which is never rewritten."""


@dataclass(frozen=True)
class Entry:
    """One published run. ``data`` and ``page`` are relative to the reports' folder; ``page`` is None without one."""

    name: str
    data: str
    page: str | None
    device: str
    started: str
    profile: str
    commit: str
    cases: int
    words: str


def publish(source: Path, reports: Path, name: str | None = None, reading: Path | None = None) -> Path:
    """Add a run to ``reports``: its data as it is, its page, the index and its device's page.

    Args:
        source: the benchmark JSON or log of the run.
        reports: the folder of all published runs.
        name: of the run's folder; by default from device, profile and start.
        reading: paragraphs about the run, divided by empty lines.

    Returns:
        The run's folder.

    Raises:
        AlreadyPublished: the folder holds data that differs.
        StoreError: ``source`` is not a run.
        ValueError: ``name`` is no plain folder name.
    """
    run = store.load(source)
    chosen = name if name is not None else slug(f"{machine(run)} {run.profile} {run.started[:16]}")
    if chosen != slug(chosen) or chosen == DEVICES:
        raise ValueError(f"name must be lower-case letters, digits and hyphens, not {DEVICES!r}, got {chosen!r}")
    folder = reports / chosen
    data = folder / ("run" + "".join(source.suffixes[-1:]))
    given = source.read_bytes()
    others = [one for one in folder.glob("run.*") if one.read_bytes() != given] if folder.exists() else []
    if others:
        raise AlreadyPublished(f"{others[0]} holds another run, and published data is never rewritten; name another")
    folder.mkdir(parents=True, exist_ok=True)
    if not data.exists():
        data.write_bytes(given)
    if reading is not None:
        (folder / READING).write_text(reading.read_text(encoding="utf-8"), encoding="utf-8")
    html.write(comparison.compare([run], reading=paragraphs(folder / READING)), folder / "report.html")
    write_index(reports)
    return folder


def paragraphs(path: Path) -> list[str]:
    """The paragraphs of a text; none where there is no file."""
    if not path.exists():
        return []
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) if part.strip()]


def write_index(reports: Path) -> Path:
    """Write ``index.html`` and the devices' pages from what the folder holds."""
    found = entries(reports)
    by_device: dict[str, list[Entry]] = {}
    for entry in found:
        by_device.setdefault(entry.device, []).append(entry)
    template = html.environment().get_template("catalogue.html")
    pages = {device: f"{DEVICES}/{slug(device)}.html" for device in by_device}
    styles = {"css": html.asset("report.css"), "light": "#ffffff", "dark": "#12161d"}
    (reports / DEVICES).mkdir(parents=True, exist_ok=True)
    for device, its in by_device.items():
        text = template.render(title=device, entries=its, pages={}, root="../", **styles)
        (reports / pages[device]).write_text(text, encoding="utf-8")
    text = template.render(title="Published attention reports", entries=found, pages=pages, root="", **styles)
    index = reports / "index.html"
    index.write_text(text, encoding="utf-8")
    return index


def entries(reports: Path) -> list[Entry]:
    """Every run under ``reports``, newest first; files that are no runs are not among them."""
    found = []
    for path in sorted([*reports.glob("*/*.json"), *reports.glob("*/*.jsonl")]):
        try:
            run = store.load(path)
        except store.StoreError:
            continue
        found.append(_entry(run, path, reports))
    return sorted(found, key=lambda entry: (entry.started, entry.data), reverse=True)


def _entry(run: Run, path: Path, reports: Path) -> Entry:
    pages = [path.with_suffix(".html"), path.parent / "report.html"]
    page = next((one.relative_to(reports).as_posix() for one in pages if one.exists()), None)
    said = answer.sentences(frame(run))
    name = path.parent.name if path.stem == "run" else f"{path.parent.name}, {path.stem}"
    return Entry(
        name, path.relative_to(reports).as_posix(), page, machine(run), run.started, run.profile,
        (run.commit or "not known")[:10], len(run.records), " ".join(map(str, said[:2])),
    )  # fmt: skip


def slug(words: str) -> str:
    """Words as the name of a folder or file."""
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") or "run"
