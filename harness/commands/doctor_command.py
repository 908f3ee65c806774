"""``harness doctor``."""

import shutil

import typer

from harness.commands.options_and_output import new_table, print_table


def doctor() -> None:
    """Show this machine's hardware, versions and compilers, and whether the native kernels can be built."""
    from harness.measure import machine
    from yoso.build import jit

    table = new_table("what", "found")
    for name, value in machine.fingerprint().items():
        table.add_row(name, "none" if value is None else str(value))
    for program in ("c++", "ninja", "nvcc"):
        table.add_row(program, shutil.which(program) or "not on PATH")
    for name, status in jit.status().items():
        table.add_row(f"yoso kernels: {name}", status)
    print_table(table)


def add_to(app: typer.Typer) -> None:
    """Add ``harness doctor``."""
    app.command()(doctor)
