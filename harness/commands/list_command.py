"""``harness list``: the attentions and what each can do, in the terminal or as the page ``docs/attentions.md``."""

import inspect
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands.options_and_output import Device, new_table, print_table

if TYPE_CHECKING:
    from harness.core.plugin import AttentionPlugin
    from harness.core.spec import OperationSpec, Scalar
    from harness.profiles.selection import Selection

SUPPORT_LENGTH = 1024
"""Sequence length of the cases that decide whether an attention runs on the device."""
KNOB_LENGTH = 4096
"""Sequence length whose default knobs the page shows."""
GROWTH_LENGTH = 65_536
"""The growth of the operation count is taken from this length to twice of it, where the terms that do not grow with the
length are small."""

_PAGE_HEAD = """\
# Attentions

`harness list --markdown` writes this page from the installed plugins, and a test checks that it is current.

| attention | what it computes | operations grow as |
|---|---|---|
"""
_GROWTH_NOTE = f"""
*Operations grow as*: the growth of the plugin's own operation count, which is the least that a forward pass must do, \
from {GROWTH_LENGTH:,} to {2 * GROWTH_LENGTH:,} tokens with the same knobs. A dash: operations are not counted.
"""


def list_attentions(
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="Dtype: float32, bfloat16 or float16.")] = "float32",
    why: Annotated[
        bool, typer.Option("--why", help="Print why an attention does not run, and audit its oracle, too.")
    ] = False,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print the page docs/attentions.md instead of the tables.")
    ] = False,
) -> None:
    """List every attention, whether it runs on this device, and what it can do."""
    from harness.core import registry
    from harness.profiles.selection import Selection

    if markdown:
        typer.echo(markdown_page(registry.get(name) for name in registry.names()), nl=False)
        return
    selection = Selection(device=device, dtype=dtype)
    table = new_table("attention", "forward", "forward+backward", "what it is")
    plugins: list[AttentionPlugin] = []
    reasons: list[str] = []
    for name in registry.names():
        try:
            plugin = registry.get(name)
        except registry.RegistryError as error:
            table.add_row(name, "no", "no", "does not load")
            reasons.append(f"{name}: {error}")
            continue
        runs, why_not = _support(plugin, selection)
        table.add_row(name, *runs, plugin.summary)
        reasons += why_not
        plugins.append(plugin)
    print_table(table)
    for line in _terminal_matrix(plugins):
        typer.echo(line)
    typer.echo()
    for line in _audit_lines(plugins, selection.device, call_oracle=why):
        typer.echo(line)
    if why:
        for reason in reasons:
            typer.echo(reason)
        for (heading, reason), names in _capability_reasons(plugins).items():
            typer.echo(f"{heading}: {reason} ({', '.join(names)})")
    elif reasons:
        typer.echo("`harness list --why` prints the reason for every no, and audits the oracles")


def add_to(app: typer.Typer) -> None:
    """Add ``harness list``."""
    app.command("list")(list_attentions)


def markdown_page(plugins: Iterable["AttentionPlugin"]) -> str:
    """The page: all attentions, what each can do, the audit, and a section on each with its source and knobs.

    Args:
        plugins: in the order of the page.
    """
    plugins = list(plugins)
    rows = "".join(
        f"| [{plugin.name}](#{plugin.name}) | {_cell(plugin.summary)} | {_growth(plugin)} |\n" for plugin in plugins
    )
    return (
        _PAGE_HEAD
        + rows
        + _GROWTH_NOTE
        + _page_matrix(plugins)
        + _page_audit(plugins)
        + "".join(map(_page_section, plugins))
    )


def _support(plugin: "AttentionPlugin", selection: "Selection") -> tuple[list[str], list[str]]:
    """``yes`` or ``no`` for forward and for forward and backward, and the reasons for each no."""
    from harness.core.record_text import exception_text
    from harness.core.spec import OperationSpec

    runs, reasons = [], []
    for mode in ("forward", "forward_backward"):
        spec = OperationSpec(
            attention=plugin.name,
            seq_len=SUPPORT_LENGTH,
            device=selection.device,
            dtype=selection.dtypes[0],
            mode=mode,
        )
        try:
            why_not = plugin.unsupported(spec)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything; the exception is the reason
            why_not = [f"its `unsupported` raises: {exception_text(error)}"]
        runs.append("no" if why_not else "yes")
        reasons += [f"{plugin.name}, {mode}: {reason}" for reason in why_not]
    return runs, reasons


def _capability_reasons(plugins: Iterable["AttentionPlugin"]) -> dict[tuple[str, str], list[str]]:
    """The attentions that give each reason for a missing or limited capability, by heading and reason, sorted."""
    from harness.core.capabilities import HEADINGS

    names: dict[tuple[str, str], list[str]] = {}
    for plugin in plugins:
        for field, heading in HEADINGS.items():
            if reason := plugin.capabilities.reason(field):
                names.setdefault((heading, reason), []).append(plugin.name)
    return dict(sorted(names.items()))


def _terminal_matrix(plugins: Iterable["AttentionPlugin"]) -> list[str]:
    """The lines of the capability matrix. Plain text: in a narrow terminal, rich would cut words in so many columns."""
    from harness.core.capabilities import HEADINGS
    from harness.pytest_plugin.terminal import aligned

    rows = [[plugin.name, *plugin.capabilities.table_cells()] for plugin in plugins]
    return aligned([["attention", *HEADINGS.values()], *rows])


def _audit_lines(plugins: Iterable["AttentionPlugin"], device: str, call_oracle: bool) -> list[str]:
    """A line for each finding about the plugins' declarations."""
    from harness.core.audit import audit

    return [
        f"audit of {plugin.name}: {finding}" for plugin in plugins for finding in audit(plugin, device, call_oracle)
    ]


def _page_audit(plugins: Iterable["AttentionPlugin"]) -> str:
    from harness.core.audit import MAX_KERNEL_ERROR, audit

    audited = (
        f"Audited are declarations that would hide mistakes: a `kernel_error` above {MAX_KERNEL_ERROR}, an oracle that "
        "calls the module it judges or rounds more than its dtype needs, and cases that are declared unsupported "
        "without need."
    )
    findings = [f"- {plugin.name}: {finding}" for plugin in plugins for finding in audit(plugin)]
    return "\n".join(["", "## Findings of the audit", "", audited, "", *(findings or ["None."]), ""])


def _page_matrix(plugins: Sequence["AttentionPlugin"]) -> str:
    from harness.core.capabilities import HEADINGS

    lines = ["", "## What each can do", "", f"| attention | {' | '.join(HEADINGS.values())} |"]
    lines.append("|---|" + "---|" * len(HEADINGS))
    lines += [f"| {plugin.name} | {' | '.join(map(_cell, plugin.capabilities.table_cells()))} |" for plugin in plugins]
    lines += ["", "Why a capability is missing or limited:", ""]
    for (heading, reason), names in _capability_reasons(plugins).items():
        lines.append(f"- *{heading}*: {reason} ({'all' if len(names) == len(plugins) else ', '.join(names)})")
    return "\n".join([*lines, ""])


def _page_section(plugin: "AttentionPlugin") -> str:
    lines = ["", f"## {plugin.name}", "", _sentence(plugin.summary), "", f"- Source: {plugin.source}"]
    if plugin.estimates:
        budget = f"; its budget is `{plugin.budget}`" if plugin.budget else ""
        lines.append(f"- Estimates: [{plugin.estimates}](#{plugin.estimates}){budget}")
    knobs = plugin.default_knobs(_spec(plugin, KNOB_LENGTH, {}))
    if knobs:
        lines.append("- Knobs: " + ", ".join(f"`{name}={value}`" for name, value in knobs.items()))
        about = inspect.getdoc(plugin.default_knobs) or ""
        lines += ["", about.replace("``", "`")]
    return "\n".join([*lines, ""])


def _growth(plugin: "AttentionPlugin") -> str:
    """The exponent of the operation count's growth with the sequence length, or a dash if it is not counted."""
    knobs = plugin.knobs(_spec(plugin, KNOB_LENGTH, {}))
    operations = []
    for length in (GROWTH_LENGTH, 2 * GROWTH_LENGTH):
        cost = plugin.cost(_spec(plugin, length, knobs)) or {}
        operations.append(sum(amount for ceiling, amount in cost.items() if ceiling not in ("copy", "cache read")))
    if not all(operations):
        return "—"
    return f"n^{math.log2(operations[1] / operations[0]):.1f}"


def _spec(plugin: "AttentionPlugin", length: int, knobs: "dict[str, Scalar]") -> "OperationSpec":
    from harness.core.spec import OperationSpec

    return OperationSpec(attention=plugin.name, seq_len=length, knobs=knobs)


def _sentence(summary: str) -> str:
    starts_with_a_name = not summary.split()[0].islower()
    return f"{summary if starts_with_a_name else summary[0].upper() + summary[1:]}."


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
