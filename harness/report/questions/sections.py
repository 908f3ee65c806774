"""The sections for experts, each one question: what it asks, its plots and its tables."""

from dataclasses import dataclass

import pandas as pd

from harness.core.record import Run
from harness.core.spec import QualitySpec
from harness.report.model import input_kinds, units
from harness.report.model.records_table import Facets
from harness.report.model.style import Style
from harness.report.model.tables import Cell, Table, with_facets
from harness.report.model.units import Amount
from harness.report.questions import (
    bounds,
    difference,
    errors,
    fairness,
    memory_parts,
    published_scores,
    rivals,
    scaling,
    scores,
    section_panels,
    swaps,
)
from harness.report.questions.panels import Panel


@dataclass(frozen=True)
class Section:
    """One question for experts: a panel of plots, tables, or both."""

    id: str
    title: str
    lead: str
    tables: list[Table]
    panel: Panel | None = None


def sections(table: pd.DataFrame, runs: list[Run], names: list[str], styles: dict[str, Style]) -> list[Section]:
    """Every section that has something to show, in the order of the page."""
    budget, seeds = section_panels.budget_panel(table, styles), section_panels.seeds_panel(table, styles)
    roofline = section_panels.roofline_panel(table, runs, styles)
    compared = section_panels.difference_panel(table, runs, styles)
    swapped = section_panels.swaps_panel(table, styles)
    fractions, ceilings = bounds.fractions(table, runs), bounds.ceilings(runs, names)
    bias = errors.bias_and_sampling(table)
    quality = [record.spec for run in runs for record in run.records if isinstance(record.spec, QualitySpec)]
    kinds = input_kinds.meaning(spec.inputs for spec in quality)
    found = [
        Section(
            "differences", "One run against another",
            f"Times of equal cases as a multiple of the first run's. Listed are ratios whose {units.LEVEL_WORDS} "
            "interval leaves out 1: of equal cases about one in twenty does, too.",
            difference.differences(table, runs), _or_none(compared),
        ),
        Section(
            "exponents", "How time grows with length",
            "The slope of log(time) on log(length), by least squares over the measured lengths from "
            f"{scaling.EXPONENT_FROM} on: 1 is linear, 2 quadratic. The {units.LEVEL_WORDS} interval is a bootstrap "
            "over samples: it holds this run's noise, not the error of calling a curve a line.",
            scaling.exponents(table),
        ),
        Section(
            "crossovers", "Where one becomes faster than another",
            "Interpolated in log-log between measured lengths, never extrapolated: “not reached in range” is slower at "
            "every measured length, but closer at the longest than at the shortest. Agreement is the share of "
            "bootstrap resamples with the same verdict.",
            scaling.crossovers(table),
        ),
        Section(
            "budget", "Error against budget",
            "How far an approximation is from what it estimates: relative Frobenius error, median over draws; the band "
            f"reaches from the best draw to the worst. Its budget is a number of hashes, features or landmarks. {kinds}"
            " The table has the bias, which all draws share, "
            "apart from the sampling error, which is each draw's own: an interval from 0 on shows no bias. "
            "YOSO scales its outputs to length 1: that alone biases a noisy sum, and fades with more hashes.",
            [bias] if bias.rows else [], _or_none(budget),
        ),
        Section(
            "accuracy", "Accuracy after training",
            "One dot a training seed, a bar at their mean. A score counts only above the dashed lines: chance, and "
            f"always naming the most frequent class. {scores.noise(table)}Changes are paired by seed; the "
            f"{units.LEVEL_WORDS} intervals are Student's t over seeds. Compare within one run, never with a number "
            "from elsewhere.",
            [*_filled(scores.listing(table)), *([published_scores.long_range_arena()] if seeds.views else [])],
            _or_none(seeds),
        ),
        Section(
            "swapped", "Trained in one attention, evaluated with another",
            "The weights of each trained model with another attention in the place of its own, and no step of training "
            "in between. The level line is the model as it was trained; bands reach from the worst seed to the best. "
            f"Changes are paired by seed; the {units.LEVEL_WORDS} intervals are Student's t, which two seeds make wide "
            "and two that agree by chance make narrow.",
            _filled(swaps.listing(table)), _or_none(swapped),
        ),
        Section(
            "rivals", "Rivals at equal size",
            "The bare encoder, same layers, width, heads and words. In brackets: "
            f"{units.LEVEL_WORDS} bootstrap interval.",
            _filled(rivals.rivals(table)),
        ),
        Section(
            "share", "Attention's share of a model's time",
            "What of the time goes when the attention is replaced by “none”, which mixes no tokens. It bounds what "
            "a faster attention can do for the model.",
            _filled(rivals.shares(table)),
        ),
        Section(
            "memory", "Memory taken apart",
            "At each attention's longest measured length. Results are what the call must hand back: the output, or the "
            "gradients; the rest of the peak is activations and workspace.",
            memory_parts.memory_parts(table),
        ),
        Section(
            "device", "Device and host",
            "Device time is the GPU's own, with cold caches and rotated inputs; wall time goes on to the end of a "
            "synchronisation. Where the host takes longer to submit a call than the device to run it, the case is "
            "launch-bound: the device waits.",
            bounds.device_and_host(table),
        ),
        Section(
            "bounds", "Roofline and fraction of the bound",
            "The bound is the least that the definition must do (inputs read once, outputs written once, every "
            "product) at the ceilings measured on this device; the fraction is bound over time.",
            [one for one in (fractions, ceilings) if one.rows], _or_none(roofline),
        ),
        Section(
            "fairness", "Is the comparison fair?",
            "What was not alike in cases that are compared with one another, as it was observed while they ran.",
            _fairness(runs, names),
        ),
    ]  # fmt: skip
    return [one for one in found if one.tables or one.panel]


def _fairness(runs: list[Run], names: list[str]) -> list[Table]:
    rows: list[tuple[Facets, list[Cell]]] = []
    for run, name in zip(runs, names, strict=True):
        facets: Facets = (("Run", name),) if len(runs) > 1 else ()
        for one in fairness.findings(run.records):
            rows.append((facets, [one.name, one.attention, one.reason, Amount(len(one.cases), "count")]))
    return _filled(with_facets("", ["Unequal", "Attention", "Why", "Cases"], rows))


def _filled(table: Table) -> list[Table]:
    return [table] if table.rows else []


def _or_none(panel: Panel) -> Panel | None:
    return panel if panel.views else None
