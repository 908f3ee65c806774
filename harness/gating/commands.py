"""The gate's commands, for ``harness.cli``."""

import typer

from harness.gating import history_command
from harness.gating.ab_command import ab
from harness.gating.bisect_command import bisect
from harness.gating.gate_command import gate


def add_to(app: typer.Typer) -> None:
    """Give ``app`` the gate's commands."""
    app.command()(gate)
    app.command()(ab)
    app.command()(bisect)
    app.add_typer(history_command.app, name="history")
