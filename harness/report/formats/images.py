"""The plots of the view model as PNG and SVG, drawn by a Chrome or Chromium of the system through kaleido."""

import copy
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from harness.report.model.comparison import Comparison
from harness.report.model.figures import text
from harness.report.questions import pareto_fronts
from harness.report.questions.panels import Plot

SCALES = {"svg": 1, "png": 2}
"""Formats, and how many pixels each has for one of the page."""
WIDTH, HEIGHT = 900, 560


class NoBrowser(RuntimeError):
    """There is no Chrome or Chromium to draw with; the message says what to do."""


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw every panel's first view, on a white page with a legend; the files are named after panel and plot.

    Raises:
        NoBrowser: no Chrome or Chromium was found.
    """
    import kaleido
    from kaleido.errors import ChromeNotFoundError

    drawn = list(_figures(comparison))
    if not drawn:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = [(figure, folder / f"{name}.{format_}") for name, figure in drawn for format_ in SCALES]
    size = {"width": WIDTH, "height": HEIGHT}
    wanted = [
        {"fig": figure, "path": path, "opts": {**size, "format": path.suffix[1:], "scale": SCALES[path.suffix[1:]]}}
        for figure, path in paths
    ]
    try:
        with as_file(files("harness.report").joinpath("page", "vendor", "plotly-basic.min.js")) as script:
            kaleido.write_fig_from_object_sync(wanted, kopts={"plotlyjs": script, "mathjax": False})
    except ChromeNotFoundError as error:
        raise NoBrowser("PNG and SVG need a Chrome or Chromium, found none; apt-get install chromium") from error
    return [path for _, path in paths]


def _figures(comparison: Comparison) -> Iterator[tuple[str, dict[str, Any]]]:
    for panel in comparison.panels:
        for plot in panel.views[0].plots:
            if any(trace["meta"]["series"] for trace in plot.figure["data"]):
                setting = ", ".join(panel.views[0].facets.values())
                yield f"{panel.id}-{plot.id}", _still(plot, setting)


def _still(plot: Plot, setting: str) -> dict[str, Any]:
    """The plot with what the page has around it: title, setting and legend."""
    figure = copy.deepcopy(plot.figure)
    title = plot.title
    meta = figure["layout"].pop("meta", None)
    if meta:
        figure["data"] = pareto_fronts.still(figure["data"], meta["length"], meta["front"])
        title += f", {meta['length']:,} tokens"
    named: set[str] = set()
    for trace in figure["data"]:
        name = trace["meta"]["series"]
        trace["showlegend"] = name is not None and not trace["meta"].get("band") and name not in named
        if trace["showlegend"]:
            named.add(name)
    figure["layout"] |= {
        "showlegend": True, "paper_bgcolor": "white", "plot_bgcolor": "white", "height": HEIGHT,
        "font": {"family": "sans-serif", "size": 13}, "margin": {"l": 90, "r": 30, "t": 80, "b": 70},
        "title": {"text": f"{title}<br><sub>{text(setting)}</sub>", "font": {"size": 16}},
    }  # fmt: skip
    for axis in ("xaxis", "yaxis", "yaxis2"):
        if axis in figure["layout"]:
            figure["layout"][axis] |= {"gridcolor": "#d9dde3", "linecolor": "#8a8f98"}
    return figure
