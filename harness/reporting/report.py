"""One run as one offline HTML page: the answer in words, the plots, the tables, and the raw records inside."""

import base64
import gzip
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.record import Run
from harness.reporting import answer, bounds, style, tables, units
from harness.reporting.frame import frame
from harness.reporting.panels import Panel, panels


def write(run: Run, path: Path) -> Path:
    """Write the report of ``run`` to ``path`` and return it; folders are made as needed.

    The file needs no network: plotly.js is inside, gzipped, and the browser unpacks it (Chrome 80, Firefox 113, Safari
    16.4 or later; older ones show the words and tables).

    Raises:
        OSError: ``path`` cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(run), encoding="utf-8")
    return path


def render(run: Run) -> str:
    """The page as text."""
    table = frame(run)
    styles = style.assign(zip(table["series"], table["base"], strict=True))
    shown = panels(table, styles)
    environment = Environment(
        loader=PackageLoader("harness.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(
        run=run,
        sentences=answer.sentences(table),
        panels=shown,
        styles=styles,
        exponents=tables.exponents(table),
        crossovers=tables.crossovers(table),
        rivals=tables.rivals(table),
        device_and_host=bounds.device_and_host(table),
        fractions=bounds.fractions(table, run),
        ceilings=bounds.ceilings(run),
        failures=tables.failures(table),
        verification=tables.verification(run),
        settings=tables.settings(run),
        machine=[(name, value) for name, value in run.machine.items() if value is not None],
        counts=table["status"].value_counts().to_dict(),
        exponent_from=tables.EXPONENT_FROM,
        level=units.LEVEL_WORDS,
        pages={"light": style.LIGHT_PAGE, "dark": style.DARK_PAGE},
        css=_asset("report.css"),
        script=_asset("report.js"),
        plotly=_plotly(),
        figures=_packed(json.dumps([_drawn(panel) for panel in shown])),
        raw=_safe(run.model_dump_json()),
    )


def _drawn(panel: Panel) -> dict[str, Any]:
    """What the page's script needs of a panel."""
    views = [
        {
            "facets": view.facets,
            "plots": [{"title": plot.title, "remarks": plot.remarks, **plot.figure} for plot in view.plots],
        }
        for view in panel.views
    ]
    return {"id": panel.id, "views": views}


def _safe(text: str) -> Markup:
    """JSON that may stand inside a script element: no ``<`` can end it."""
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _asset(name: str) -> Markup:
    return Markup(files("harness.reporting").joinpath("templates", name).read_text(encoding="utf-8"))


@cache
def _plotly() -> Markup:
    return _packed(get_plotlyjs())


def _packed(text: str) -> Markup:
    """Gzipped, in base64: plain, plotly.js alone is 4.8 MB; so, a page of 2,000 cases stays under 6 MB."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii"))
