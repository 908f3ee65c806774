"""The view model as one offline HTML page: the answer in words, the plots, the tables, and the raw records inside."""

import base64
import gzip
import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.report.model import style, units
from harness.report.model.comparison import Comparison
from harness.report.questions.panels import Panel


def write(comparison: Comparison, path: Path) -> Path:
    """Write the page to ``path`` and return it; folders are made as needed.

    The file needs no network: plotly.js is inside, gzipped as the records are, and the browser unpacks both (Chrome 80,
    Firefox 113, Safari 16.4 or later; older ones show the words and tables).

    Raises:
        OSError: ``path`` cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(comparison), encoding="utf-8")
    return path


def render(comparison: Comparison) -> str:
    """The page as text."""
    data = {
        "runs": [json.loads(run.model_dump_json()) for run in comparison.raw],
        "view": comparison.plain(),
        "page": {
            "panels": [_drawn(panel) for panel in comparison.panels],
            "filters": comparison.filters,
            "lengths": comparison.lengths,
            "levels": [panel.id for panel in comparison.levels],
        },
    }
    return (
        environment()
        .get_template("report.html")
        .render(
            view=comparison,
            level=units.LEVEL_WORDS,
            pages={"light": style.LIGHT_PAGE, "dark": style.DARK_PAGE},
            css=asset("report.css"),
            script=asset("report.js"),
            plotly=_plotly(),
            data=_packed(json.dumps(data, allow_nan=False)),
        )
    )


def environment() -> Environment:
    """Jinja with everything escaped."""
    return Environment(
        loader=PackageLoader("harness.report", "page/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(name: str) -> Markup:
    """The text of a file in ``templates``."""
    return Markup(files("harness.report").joinpath("page", "templates", name).read_text(encoding="utf-8"))


def _drawn(panel: Panel) -> dict[str, Any]:
    """What the page's script needs of a panel."""
    views = [
        {
            "facets": view.facets,
            "lengths": view.lengths,
            "plots": [
                {
                    "id": plot.id,
                    "title": plot.title,
                    "remarks": [str(remark) for remark in plot.remarks],
                    "empty": plot.empty,
                    **plot.figure,
                }
                for plot in view.plots
            ],
        }
        for view in panel.views
    ]
    return {"id": panel.id, "views": views}


@cache
def _plotly() -> Markup:
    """plotly.js's basic bundle: scatter, bar and pie, a quarter of the whole."""
    return _packed(
        files("harness.report").joinpath("page", "vendor", "plotly-basic.min.js").read_text(encoding="utf-8")
    )


def _packed(text: str) -> Markup:
    """Gzipped, in base64, which no script element can be ended by."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii"))
