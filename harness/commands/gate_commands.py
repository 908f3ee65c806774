"""The gate's commands, for ``harness.commands.app``."""

import typer

from harness.commands import history_command
from harness.commands.ab_command import ab
from harness.commands.bisect_command import bisect
from harness.commands.gate_command import gate


def add_to(app: typer.Typer) -> None:
    """Give ``app`` the gate's commands."""
    app.command()(gate)
    app.command()(ab)
    app.command()(bisect)
    app.add_typer(history_command.app, name="history")
