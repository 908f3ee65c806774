"""Pages with made-up data in a browser: a test writes the data that the scripts read, and looks at the drawing."""

import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from harness.report.model.amounts import Amount, Sentence
from harness.report.model.page_data import ErrorAtSetting, MethodRow
from harness.report.questions.best_methods import RULE, best_methods

WIDTHS = (390, 1280, 1920)
Operation = dict[str, Any]


def go(page: Page, path: Path, place: str = "") -> None:
    page.goto(f"{path.as_uri()}{place}")
    page.wait_for_selector("html[data-ready=yes]", timeout=20_000)


def resize(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def write(path: Path, empty_page: str, operation: Operation) -> Path:
    """The page with this operation as its data."""
    data = {"operation": operation, "trained": [], "wholeModels": [], "styles": {}}
    packed = base64.b64encode(gzip.compress(json.dumps(data).encode(), 1)).decode()
    text, count = re.subn(r'(<script type="text/plain" id="page">)[^<]*', lambda found: found[1] + packed, empty_page)
    assert count == 1
    path.write_text(text, encoding="utf-8")
    return path


def amount(value: float, unit: str, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    scale, name = {"s": (1e3, " ms"), "fraction": (100, "%"), "B": (2**-20, " MiB"), "tokens": (1, "")}[unit]
    found: dict[str, Any] = {"value": value, "unit": unit, "words": f"{value * scale:.3g}{name}", "interval": ""}
    if low is not None and high is not None:
        found |= {"low": low, "high": high, "interval": f"[{low * scale:.3g}, {high * scale:.3g}]"}
    return found


def row(
    name: str, seconds: float, error: float | None = None, budget: int | None = None, **more: Any
) -> dict[str, Any]:
    measured = None
    if error is not None:
        measured = {
            "worst": amount(error, "fraction", error * 0.9, error * 1.1),
            "of": "gradient of k",
            "draws": 8,
            "reference": "softmax",
            "rounding": more.pop("rounding", False),
        }
    return {
        "series": name if budget is None else f"{name} {budget}",
        "attention": name,
        "knob": "" if budget is None else f"{budget} hashes",
        "budget": budget and {"name": "num_hash", "words": f"{budget} hashes", "value": budget},
        "isDefault": budget in (None, 32),
        "exactSoftmax": False,
        "time": amount(seconds, "s", seconds * 0.98, seconds * 1.02),
        "samples": 9,
        "intervalScope": {"words": "within one process", "amounts": []},
        "disturbance": None,
        "ratio": None,
        "comparison": "9.9 times faster than exact",
        "order": "faster",
        "tiedBecause": None,
        "memory": amount(2**25, "B"),
        "errors": {} if measured is None else {"sharp": measured},
        "score": None,
        "checks": {"passed": 4, "total": 4},
        "kernel": "a kernel",
        "knobs": [] if budget is None else [["num_hash", str(budget)]],
        "caseId": f"case-{name}-{budget}-{seconds}",
        "command": "pytest",
    } | more


def exact(seconds: float = 0.1, name: str = "exact") -> dict[str, Any]:
    return row(name, seconds, 1e-6, rounding=True, exactSoftmax=True, order="reference", comparison="the reference")


def line(name: str, lengths: tuple[int, ...], seconds: float, crossing: float | None = None) -> dict[str, Any]:
    points = [
        {
            "length": length,
            "lengthWords": f"{length:,}",
            "time": amount(seconds * length / 128, "s"),
            "memory": amount(length * 2**14, "B"),
            "disturbed": False,
        }
        for length in lengths
    ]
    comparison = "no clear order" if crossing is None else f"faster from {crossing:g} tokens"
    crossed = None if crossing is None else amount(crossing, "tokens")
    return {
        "facets": {},
        "pass": "forward",
        "series": name,
        "attention": name,
        "points": points,
        "comparison": comparison,
        "crossing": crossed,
    }


def winners(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The winners among rows as the scripts read them, by the rule of the report."""

    def amount_of(found: dict[str, Any]) -> Amount:
        return Amount(found["value"], found["unit"], found.get("low"), found.get("high"), found["words"])

    def method(found: dict[str, Any]) -> MethodRow:
        errors = {
            kind: ErrorAtSetting(
                amount_of(error["worst"]), error["of"], error["draws"], error["reference"], error["rounding"],
                without_gradients=False, measured=True, inputs=Sentence(kind),
            )
            for kind, error in found["errors"].items()
        }  # fmt: skip
        return MethodRow(
            series=found["series"], attention=found["attention"], knob=found["knob"], knob_amounts=(), budget=None,
            is_default=found["isDefault"], exact_softmax=found["exactSoftmax"], time=amount_of(found["time"]),
            samples=found["samples"], interval_scope=None, disturbance=found["disturbance"], ratio=None,
            comparison=found["comparison"], order=found["order"], tied_because=None, memory=None, errors=errors,
            score=None, checks=(4, 4), kernel=None, knobs=(), case_id=found["caseId"], command=found["command"],
        )  # fmt: skip

    best = best_methods([method(each) for each in rows], "exact", None, "sharp")
    return {"sharp": best.as_json({each["series"]: index for index, each in enumerate(rows)})}


def operation(
    rows: list[dict[str, Any]], lines: list[dict[str, Any]] | None = None, lengths: tuple[int, ...] = (128, 1024)
) -> Operation:
    best = winners(rows)
    settings = [
        {
            "facets": {},
            "pass": "forward",
            "length": length,
            "lengthWords": f"{length:,}",
            "reference": "exact",
            "tie": None,
            "floor": None,
            "notices": [],
            "rows": rows,
            "best": best,
            "withoutResult": [],
        }
        for length in lengths
    ]
    return {
        "facets": {},
        "passes": ["forward"],
        "lengths": [{"value": length, "words": f"{length:,}", "hasErrors": True} for length in lengths],
        "inputs": ["sharp"],
        "yours": None,
        "rule": RULE,
        "settings": settings,
        "lines": lines or [],
        "start": {"facets": {}, "pass": "forward", "length": lengths[-1], "inputs": "sharp"},
    }


LOOK = """() => {
  const boxes = (selector) => [...document.querySelectorAll(selector)].map((one) => {
    const { left, right, top, bottom } = one.getBoundingClientRect();
    return { left, right, top, bottom, words: one.textContent };
  }).filter(({ left, right }) => right > left);
  const colliding = (texts) => texts.flatMap((one, index) => texts.slice(index + 1).filter((other) =>
    one.left < other.right - 1 && one.right - 1 > other.left && one.top < other.bottom - 3 && one.bottom - 3 > other.top
  ).map((other) => `${one.words} | ${other.words}`));
  const texts = boxes("#chart svg text");
  const panels = [...document.querySelectorAll("#multiples .multiple svg")].map((one, index) => {
    one.dataset.panel = index;
    return boxes(`#multiples [data-panel="${index}"] text`);
  });
  const root = getComputedStyle(document.documentElement);
  const [grey, ink] = ["--rest", "--ink"].map((name) => root.getPropertyValue(name).trim());
  const colours = [...document.querySelectorAll("#chart [data-attention]")]
    .map((one) => getComputedStyle(one).getPropertyValue("--series").trim());
  return {
    colliding: [texts, ...panels].flatMap(colliding),
    outside: [...texts, ...panels.flat()].filter(({ left, right }) => left < -1 || right > innerWidth + 1),
    ticks: Object.fromEntries(["#chart .tick.time", "#chart .tick.error", "#multiples .tick.length",
      "#multiples .tick.amount"].map((axis) => [axis, boxes(axis).length])),
    points: document.querySelectorAll("#chart .mark .dot").length,
    panels: panels.length,
    colours: new Set(colours.filter((colour) => colour !== grey && colour !== ink)).size,
  };
}"""


def check_drawing(page: Page, where: str) -> dict[str, Any]:
    """What is true of every drawing: nothing collides or is cut off, every axis has ticks, at most six colours."""
    found: dict[str, Any] = page.evaluate(LOOK)
    assert found["colliding"] == [], where
    assert found["outside"] == [], where
    assert 1 <= found["colours"] <= 6, where
    ticks = found["ticks"]
    assert ticks["#chart .tick.time"] >= 2, where
    assert (ticks["#chart .tick.error"] >= 2) == (found["points"] > 0), where
    if found["panels"]:
        assert ticks["#multiples .tick.length"] >= 2, where
        assert ticks["#multiples .tick.amount"] >= 2, where
    return found
