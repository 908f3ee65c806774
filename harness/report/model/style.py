"""One colour, marker and dash for each attention, the same in every plot.

The hues are Okabe and Ito's colour-blind-safe set (jfly.uni-koeln.de/color), darkened where a line would be too pale:
every colour has a contrast of at least 3:1 with both the light and the dark page. Series never differ by colour alone:
marker and dash differ too.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

LIGHT_PAGE = "#ffffff"
DARK_PAGE = "#12161d"

VERMILLION = "#d55e00"
PURPLE = "#b3589a"
GREY = "#7a7f87"
BLUE = "#1a78b8"
SKY = "#2b93d1"
GREEN = "#009e73"
OCHRE = "#a87b00"
BROWN = "#a0673f"

MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "star", "hexagon", "cross")
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Style:
    """How a series is drawn; the values are plotly's names."""

    color: str
    marker: str
    dash: str


_KNOWN = {
    "yoso": Style(VERMILLION, "circle", "solid"),
    "yoso_e": Style(PURPLE, "diamond", "solid"),
    "softmax": Style(GREY, "square", "solid"),
    "sdpa": Style(BLUE, "triangle-up", "solid"),
    "sdpa_flash": Style(SKY, "triangle-down", "dash"),
    "sdpa_math": Style(GREEN, "hexagon", "dash"),
    "sdpa_efficient": Style(OCHRE, "star", "dash"),
    "sdpa_cudnn": Style(BROWN, "cross", "dash"),
    "xformers_cutlass": Style(OCHRE, "square", "dot"),
    "xformers_flash2": Style(SKY, "diamond", "dot"),
    "xformers_flash3": Style(GREEN, "circle", "dot"),
    "xformers_triton_splitk": Style(BROWN, "triangle-up", "dot"),
    "bert · sdpa": Style(BLUE, "square", "dashdot"),
    "transformers_yoso · yoso_e": Style(PURPLE, "cross", "dashdot"),
}
_COLORS = (OCHRE, GREEN, BROWN, SKY, GREY, PURPLE, BLUE, VERMILLION)


def assign_styles(series: Iterable[tuple[str, str]]) -> dict[str, Style]:
    """The style of each series.

    Args:
        series: (series, base series) pairs: the base series is the attention, the series may add knobs. Series with
            one base share its colour and differ in marker and dash.
    """
    by_base: dict[str, list[str]] = {}
    for label, base in sorted(set(series)):
        by_base.setdefault(base, []).append(label)
    unknown = {base: nth for nth, base in enumerate(base for base in sorted(by_base) if base not in _KNOWN)}
    styles = {}
    for base, labels in by_base.items():
        first = _KNOWN[base] if base in _KNOWN else _unused_style(unknown[base])
        for nth, label in enumerate(labels):
            styles[label] = Style(first.color, _advance(MARKERS, first.marker, nth), _advance(DASHES, first.dash, nth))
    return styles


def _unused_style(nth: int) -> Style:
    """The nth style that no known attention has; colours change first, then markers, then dashes."""
    unused = _unused_styles()
    return unused[nth % len(unused)]


@cache
def _unused_styles() -> list[Style]:
    combinations = range(len(_COLORS) * len(MARKERS) * (len(DASHES) - 1))
    styles = [
        Style(
            _COLORS[i % len(_COLORS)],
            MARKERS[(i + i // len(_COLORS)) % len(MARKERS)],
            DASHES[1 + i // (len(_COLORS) * len(MARKERS))],
        )
        for i in combinations
    ]
    return [style for style in styles if style not in _KNOWN.values()]


def _advance(choices: tuple[str, ...], first: str, nth: int) -> str:
    return choices[(choices.index(first) + nth) % len(choices)]
