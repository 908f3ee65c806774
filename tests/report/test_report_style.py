"""Colours and markers of the report's plots."""

from itertools import combinations

import numpy as np
import synthetic

from harness.report.model import style


def _luminance(color: str) -> float:
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_every_colour_is_seen_on_both_pages() -> None:
    names = [*synthetic.COSTS, *synthetic.UNSUPPORTED, *(f"stranger{i}" for i in range(12))]
    for look in style.assign((name, name) for name in names).values():
        for page_color in (style.LIGHT_PAGE, style.DARK_PAGE):
            low, high = sorted((_luminance(look.color), _luminance(page_color)))
            assert (high + 0.05) / (low + 0.05) >= 3, (look.color, page_color)


def test_no_two_attentions_look_alike() -> None:
    names = [*style._KNOWN, *(f"stranger{i}" for i in range(20))]
    looks = style.assign([(name, name) for name in names])
    assert all(looks[a] != looks[b] for a, b in combinations(names, 2))
    assert style.assign([("yoso", "yoso")])["yoso"] == looks["yoso"]
