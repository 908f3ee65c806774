"""The report as one offline HTML page: summary, plots, tables, and the raw records inside."""

import base64
import gzip
import json
from dataclasses import asdict
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup

from harness.core.escaping import reordering_texts
from harness.core.templates import environment
from harness.report.comparison import Comparison
from harness.report.model import style
from harness.report.model.page_parts import Panel

_PAGE = files("harness.report").joinpath("page")
TEMPLATES = Path(str(_PAGE.joinpath("templates")))
PLOTLY = _PAGE.joinpath("vendor", "plotly-basic.min.js")
"""plotly.js's basic bundle (scatter, bar and pie), a quarter of the size of the whole."""


def write(comparison: Comparison, path: Path) -> Path:
    """Write the page to ``path`` and return it; missing folders are created.

    The file needs no network: it contains plotly.js and the records, both gzipped, and the browser unpacks them (Chrome
    80, Firefox 113, Safari 16.4 or later; older browsers show text and tables only).

    Raises:
        OSError: ``path`` cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(comparison), encoding="utf-8")
    return path


def render(comparison: Comparison) -> str:
    """The page as text."""
    runs = ", ".join(run.model_dump_json() for run in comparison.raw)
    data = f'{{"runs": [{runs}], "report": {json.dumps(comparison.as_json(), allow_nan=False)}}}'
    panels = [panel_for_script(panel) for panel in comparison.panels]
    return (
        environment(TEMPLATES, reordering_texts(f"[{runs}]"))
        .get_template("report.html")
        .render(
            report=comparison,
            page_colors={"light": style.LIGHT_PAGE, "dark": style.DARK_PAGE},
            css=template_text("report.css") + template_text("charts.css"),
            import_map=import_map(),
            plotly=packed_plotly(),
            data=_packed(data),
            page_data=_packed(json.dumps(page_data(comparison), allow_nan=False)),
            panels=_packed(json.dumps(panels, allow_nan=False)),
        )
    )


def template_text(name: str) -> Markup:
    """The text of a file in ``templates``, which needs no escaping."""
    return Markup(_PAGE.joinpath("templates", name).read_text(encoding="utf-8"))


def page_data(comparison: Comparison) -> dict[str, Any]:
    """What the scripts of the first screens read, without the panels (``scripts/page_data.d.ts``, ``PageData``)."""
    return {
        "operation": comparison.operation and comparison.operation.as_json(),
        "trained": [task.as_json() for task in comparison.trained],
        "wholeModels": [model.as_json() for model in comparison.whole_models],
        "styles": {name: asdict(drawn) for name, drawn in comparison.styles.items()},
    }


@cache
def import_map() -> Markup:
    """The page's scripts as an import map: each has the name ``report/NAME`` and is a data URL, so nothing is loaded.

    Base64 cannot contain the end tag of a script element.
    """
    scripts = sorted(
        (script for script in _PAGE.joinpath("scripts").iterdir() if script.name.endswith(".js")),
        key=lambda script: script.name,
    )
    urls = {f"report/{script.name.removesuffix('.js')}": _module_url(script.read_bytes()) for script in scripts}
    return Markup(json.dumps({"imports": urls}, indent=0))


def _module_url(source: bytes) -> str:
    return f"data:text/javascript;base64,{base64.b64encode(source).decode('ascii')}"


def panel_for_script(panel: Panel) -> dict[str, Any]:
    """What the page's script needs from a panel."""
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
def packed_plotly() -> Markup:
    """plotly.js, gzipped and in base64."""
    return _packed(PLOTLY.read_text(encoding="utf-8"))


def _packed(text: str) -> Markup:
    """Gzipped and in base64, which cannot contain the end tag of a script element."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii"))
