"""The page of a report, parsed for tests."""

import base64
import gzip
import json
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

from harness.core.record import Run
from harness.report.comparison import compare
from harness.report.formats import html
from harness.report.model.amounts import Sentence
from harness.report.model.page_parts import Evidence
from harness.report.questions import headline
from harness.report.questions.operation_page import operation_data

BLOCKS = {
    "title", "h1", "h2", "h3", "h4", "p", "li", "th", "td", "dt", "dd", "option", "summary", "button", "label", "span",
    "pre",
}  # fmt: skip
SCRIPTS = ("scripts", "data", "page", "panels", "plotly", "main")
"""The ids of the page's script elements: the import map, four packed texts, and the module that starts the rest."""
VOID = {"meta", "link", "input", "br", "img"}


@dataclass
class Block:
    """An element with its own text and that of its inline children; ``inside`` are the classes of its ancestors."""

    tag: str
    kind: str
    inside: frozenset[str]
    text: str = ""


class Page(HTMLParser):
    """Scripts by id, the visible text, every address, the cells of each table row, and every block of text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.blocks: list[Block] = []
        self._open: list[tuple[str, str, Block | None]] = []
        self._script: str | None = None
        self._is_invisible = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "action"}]
        if tag not in VOID:
            kind = attributes.get("class") or ""
            block = Block(tag, kind, frozenset(kinds for _, kinds, _ in self._open)) if tag in BLOCKS else None
            self._open.append((tag, kind, block))
            self.blocks += [block] if block else []
        self._is_invisible = tag in {"script", "style"}
        if tag == "script":
            self._script = attributes.get("id") or "page"
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop()[0] != tag:
            pass
        if tag in {"script", "style"}:
            self._script, self._is_invisible = None, False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif not self._is_invisible:
            self.words.append(data)
            block = next((block for _, _, block in reversed(self._open) if block), None)
            if block:
                block.text = " ".join(f"{block.text} {data}".split())
            else:
                assert not data.strip(), f"text outside every block: {data!r}"
            if block and block.tag in {"td", "th"}:
                self.rows[-1][-1] += data.strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def of(*runs: Run) -> Page:
    """The page of the report of these runs."""
    return Page(html.render(compare(runs)))


def data(page: Page) -> dict:
    """What the page embeds: the ``runs``, the ``report`` made from them, and what its scripts read (``page``)."""
    drawn = {**unpacked(page, "page"), "panels": unpacked(page, "panels")}
    return {**unpacked(page, "data"), "page": drawn}


def unpacked(page: Page, script: str) -> Any:
    """The data in one script element of the page."""
    return json.loads(gzip.decompress(base64.b64decode(page.scripts[script])))


def embedded_runs(page: Page) -> list[Run]:
    """The embedded runs."""
    return [Run.model_validate(run) for run in data(page)["runs"]]


def pictures(*runs: Run) -> dict[str, list[dict]]:
    """The views over length that only the pictures draw, by level, as those of the page's panels."""
    return {panel.id: html.panel_for_script(panel)["views"] for panel in compare(runs).levels}


def figures(page: Page) -> dict[str, list[dict]]:
    """The views of each panel, by the id of the panel."""
    return {panel["id"]: panel["views"] for panel in data(page)["page"]["panels"]}


def headline_of(run: Run) -> list[Sentence]:
    """What the summary of a run says."""
    evidence = Evidence.of_run(run)
    return headline.sentences(evidence.rows, operation_data(evidence))
