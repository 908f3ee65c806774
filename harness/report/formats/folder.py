"""A report in every format, in one folder."""

from pathlib import Path

from harness.report.comparison import Comparison
from harness.report.formats import csv_table, html, images, latex, markdown


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``index.html``, ``report.md``, ``tables.tex``, ``cases.csv`` and ``figures/*.svg`` and ``*.png``.

    Where trained models were evaluated with other attentions, ``swaps.csv`` has those scores.

    Returns:
        The paths of the written files.

    Raises:
        images.NoBrowser: there is no browser to draw pictures with; everything else has been written.
        OSError: ``folder`` cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = [html.write(comparison, folder / "index.html")]
    for name, text in (("report.md", markdown.render(comparison)), ("tables.tex", latex.render(comparison))):
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    csv_table.write(comparison.cases, folder / "cases.csv")
    written.append(folder / "cases.csv")
    if comparison.swaps:
        csv_table.write(comparison.swaps, folder / "swaps.csv")
        written.append(folder / "swaps.csv")
    return [*written, *images.write(comparison, folder / "figures")]
