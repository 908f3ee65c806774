"""The plots of the report as PNG and SVG, drawn by the system's Chrome or Chromium through kaleido."""

import copy
from collections.abc import Iterator
from importlib.resources import as_file
from pathlib import Path
from typing import Any

from harness.report.comparison import Comparison
from harness.report.formats.html import PLOTLY
from harness.report.model.figures import REFERENCE_COLOR, escape_text
from harness.report.model.page_parts import Plot
from harness.report.questions.pareto import traces_at_length

SCALES = {"svg": 1, "png": 2}
"""Pixels per CSS pixel, by format."""
WIDTH, HEIGHT = 900, 560


class NoBrowser(RuntimeError):
    """There is no Chrome or Chromium to draw pictures with; the message says how to install one."""


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Draw the first view of every panel of the page, and of those over length that only pictures have, on a white
    background with a legend; files are named after panel and plot.

    Raises:
        NoBrowser: no Chrome or Chromium was found.
    """
    import kaleido
    from kaleido.errors import ChromeNotFoundError

    figures = list(_figures(comparison))
    if not figures:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = [(figure, folder / f"{name}.{format_}") for name, figure in figures for format_ in SCALES]
    size = {"width": WIDTH, "height": HEIGHT}
    drawings = [
        {"fig": figure, "path": path, "opts": {**size, "format": path.suffix[1:], "scale": SCALES[path.suffix[1:]]}}
        for figure, path in paths
    ]
    try:
        with as_file(PLOTLY) as script:
            kaleido.write_fig_from_object_sync(drawings, kopts={"plotlyjs": script, "mathjax": False})
    except ChromeNotFoundError as error:
        raise NoBrowser("PNG and SVG need Chrome or Chromium, found none; apt-get install chromium") from error
    return [path for _, path in paths]


def _figures(comparison: Comparison) -> Iterator[tuple[str, Any]]:
    for panel in [*comparison.levels, *comparison.panels]:
        for plot in panel.views[0].plots:
            if any(trace["meta"]["series"] for trace in plot.figure["data"]):
                setting = ", ".join(panel.views[0].facets.values())
                yield f"{panel.id}-{plot.id}", _still_figure(plot, setting)


def _still_figure(plot: Plot, setting: str) -> Any:
    """The plotly figure with what the page shows around it: title, setting and legend. plotly checks every property."""
    from plotly import graph_objects

    figure = copy.deepcopy(plot.figure)
    title = plot.title
    meta = figure["layout"].pop("meta", None)
    if meta:
        figure["data"] = traces_at_length(figure["data"], meta["length"], meta["front"])
        figure["layout"] |= copy.deepcopy(meta["axes"][str(meta["length"])])
        title += f", {meta['length']:,} tokens"
    in_legend: set[str] = set()
    for trace in figure["data"]:
        name = trace["meta"]["series"]
        trace["showlegend"] = name is not None and not trace["meta"].get("band") and name not in in_legend
        if trace["showlegend"]:
            in_legend.add(name)
    figure["layout"] |= {
        "showlegend": True, "paper_bgcolor": "white", "plot_bgcolor": "white", "height": HEIGHT,
        "font": {"family": "sans-serif", "size": 13}, "margin": {"l": 90, "r": 30, "t": 80, "b": 70},
        "title": {"text": f"{title}<br><sub>{escape_text(setting)}</sub>", "font": {"size": 16}},
    }  # fmt: skip
    for axis in ("xaxis", "yaxis", "yaxis2"):
        if axis in figure["layout"]:
            figure["layout"][axis] |= {"gridcolor": "#d9dde3", "linecolor": REFERENCE_COLOR}
    return graph_objects.Figure(figure).update_layout(template=None)
