"""A report's page, taken apart for tests."""

import base64
import gzip
import json
from html.parser import HTMLParser

from harness.record import Run
from harness.reporting import html, view


class Page(HTMLParser):
    """Scripts by id, the visible text, every address, and the cells of each table row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: dict[str, str] = {}
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self._script: str | None = None
        self._hushed = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href", "action"}]
        self._hushed = tag in {"script", "style"}
        if tag == "script":
            self._script = given.get("id") or "page"
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        if tag in {"script", "style"}:
            self._script, self._hushed = None, False

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data
        elif not self._hushed:
            self.words.append(data)
            if self.rows and self.rows[-1]:
                self.rows[-1][-1] += data.strip()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def of(*runs: Run) -> Page:
    """The page of a report on these runs."""
    return Page(html.render(view.compare(runs)))


def data(page: Page) -> dict:
    """What the page embeds: ``runs``, the ``view`` made from them and what its script needs of the ``page``."""
    return json.loads(gzip.decompress(base64.b64decode(page.scripts["data"])))


def embedded_runs(page: Page) -> list[Run]:
    """The records inside."""
    return [Run.model_validate(run) for run in data(page)["runs"]]


def figures(page: Page) -> dict[str, list[dict]]:
    """The views of each panel, by its id."""
    return {panel["id"]: panel["views"] for panel in data(page)["page"]["panels"]}
