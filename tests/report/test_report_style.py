"""Colours and markers of the report's plots."""

import re
from itertools import combinations

import numpy as np
import synthetic

from harness.report.formats import html
from harness.report.model import style


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_every_colour_has_contrast_on_light_and_dark_pages() -> None:
    names = [*synthetic.COSTS, *synthetic.UNSUPPORTED, *(f"unknown{i}" for i in range(12))]
    for drawn in style.assign_styles((name, name) for name in names).values():
        for page_color in (style.LIGHT_PAGE, style.DARK_PAGE):
            low, high = sorted((_luminance(drawn.color), _luminance(page_color)))
            assert (high + 0.05) / (low + 0.05) >= 3, (drawn.color, page_color)


def test_the_six_colours_of_the_first_screens_can_be_read_as_text() -> None:
    css = html.template_text("report.css")
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in css.split("@media", 2)[:2])
    for colors, page_color in ((light, style.LIGHT_PAGE), (dark, style.DARK_PAGE)):
        series = [colors[f"series-{n}"] for n in range(1, 7)]
        assert len(set(series)) == 6
        for color in (*series, colors["soft"], colors["faint"], colors["bad"]):
            low, high = sorted((_luminance(color), _luminance(page_color)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (color, page_color)


def test_every_attention_has_its_own_style() -> None:
    names = [*style._KNOWN, *(f"unknown{i}" for i in range(20))]
    styles = style.assign_styles([(name, name) for name in names])
    assert all(styles[a] != styles[b] for a, b in combinations(names, 2))
    assert style.assign_styles([("yoso", "yoso")])["yoso"] == styles["yoso"]
