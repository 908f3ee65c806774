"""Every attention as a page of Markdown, written from the plugins themselves: ``docs/attentions.md``."""

import inspect
import math
from collections.abc import Iterable

from harness.core.capabilities import HEADINGS
from harness.core.plugin import AttentionPlugin
from harness.core.spec import OperationSpec

LENGTH = 4096
"""Knobs are shown as they are at this length."""
FAR = 65_536
"""Growth is from here to twice as many tokens: what does not depend on the length has little part there."""

_HEAD = """\
# Attentions

Written by `harness list --markdown` from the plugins that are installed; a test holds it against them.

| attention | what it computes | operations grow as |
|---|---|---|
"""
_GROWTH = f"""
*Operations grow as*: by the plugin's own count of the least that a forward pass must do, from {FAR:,} to {2 * FAR:,} \
tokens with the same knobs. A dash: its operations are not counted.
"""


def markdown(plugins: Iterable[AttentionPlugin]) -> str:
    """The page: a table of all, what each can do, and a section on each with its source and knobs.

    Args:
        plugins: in the order of the page.
    """
    plugins = list(plugins)
    rows = "".join(f"| [{one.name}](#{one.name}) | {_cell(one.summary)} | {_growth(one)} |\n" for one in plugins)
    return _HEAD + rows + _GROWTH + _matrix(plugins) + "".join(_section(one) for one in plugins)


def _spec(plugin: AttentionPlugin, length: int, knobs: dict[str, bool | int | float | str]) -> OperationSpec:
    return OperationSpec(attention=plugin.name, seq_len=length, knobs=knobs)


def _growth(plugin: AttentionPlugin) -> str:
    knobs = plugin.knobs(_spec(plugin, LENGTH, {}))
    counted = []
    for length in (FAR, 2 * FAR):
        cost = plugin.cost(_spec(plugin, length, knobs)) or {}
        counted.append(sum(amount for ceiling, amount in cost.items() if ceiling not in ("copy", "cache read")))
    if not all(counted):
        return "—"
    return f"n^{math.log2(counted[1] / counted[0]):.1f}"


def _matrix(plugins: list[AttentionPlugin]) -> str:
    lines = ["", "## What each can do", "", f"| attention | {' | '.join(HEADINGS.values())} |"]
    lines.append("|---|" + "---|" * len(HEADINGS))
    lines += [f"| {one.name} | {' | '.join(map(_cell, one.capabilities.table_cells()))} |" for one in plugins]
    who: dict[tuple[str, str], list[str]] = {}
    for plugin in plugins:
        for name, heading in HEADINGS.items():
            if reason := plugin.capabilities.reason(name):
                who.setdefault((heading, reason), []).append(plugin.name)
    lines += ["", "Why not, or where only:", ""]
    for (heading, reason), names in sorted(who.items()):
        everyone = "all" if len(names) == len(plugins) else ", ".join(names)
        lines.append(f"- *{heading}*: {reason} ({everyone})")
    return "\n".join([*lines, ""])


def _section(plugin: AttentionPlugin) -> str:
    lines = ["", f"## {plugin.name}", "", _sentence(plugin.summary), "", f"- Source: {plugin.source}"]
    if plugin.estimates:
        budget = f"; its budget is `{plugin.budget}`" if plugin.budget else ""
        lines.append(f"- Estimates: [{plugin.estimates}](#{plugin.estimates}){budget}")
    knobs = plugin.default_knobs(_spec(plugin, LENGTH, {}))
    if knobs:
        lines.append("- Knobs: " + ", ".join(f"`{name}={value}`" for name, value in knobs.items()))
        about = inspect.getdoc(plugin.default_knobs) or ""
        lines += ["", about.replace("``", "`")]
    return "\n".join([*lines, ""])


def _sentence(words: str) -> str:
    begins_with_a_name = not words.split()[0].islower()
    return f"{words if begins_with_a_name else words[0].upper() + words[1:]}."


def _cell(words: str) -> str:
    return words.replace("|", "\\|")
