"""Hooks of mkdocs: the site contains the published reports, and every file of the repository that a page links to.

Pages link to such files by their path in the repository (``../reports/gpu-h100/report.html``), so that the links work
where the repository is read, too. In the site, reports are in ``reports/``, and other files in ``source/``.
"""

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<=\]\()(?!https?://|#|mailto:)([^)#\s]+)")


def on_files(files: Files, config: Any) -> Files:
    """Add the published reports, and the linked files."""
    reports = [path for path in sorted((ROOT / "reports").rglob("*")) if path.is_file()]
    pages = [path for path in [*DOCS.rglob("*.md"), *reports] if path.suffix == ".md"]
    linked = {target for page in pages for target in _targets(page) if _place(target).startswith("source/")}
    for path in [*reports, *sorted(linked)]:
        files.append(File.generated(config, _place(path), content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite links to files of the repository as links to their places in the site."""
    place = page.file.src_uri
    within_repository = place.removeprefix("source/") if place.startswith(("reports/", "source/")) else f"docs/{place}"
    folder = (ROOT / within_repository).parent

    def rewritten(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(folder / link[1]))
        if not target.is_file() or not target.is_relative_to(ROOT):
            return link[0]
        return posixpath.relpath(_place(target), posixpath.dirname(place) or ".")

    return LINK.sub(rewritten, markdown)


def _targets(page: Path) -> list[Path]:
    """The existing files of the repository that a page links to."""
    links = LINK.findall(page.read_text(encoding="utf-8"))
    targets = [Path(os.path.normpath(page.parent / link)) for link in links]
    return [target for target in targets if target.is_file() and target.is_relative_to(ROOT)]


def _place(path: Path) -> str:
    """Where a file of the repository is in the site."""
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    within = path.relative_to(ROOT).as_posix()
    return within if within.startswith("reports/") else f"source/{within}"
