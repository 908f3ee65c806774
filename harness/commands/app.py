"""The ``harness`` command. A module ``*_command`` of this package adds its subcommand with a function ``add_to(app)``.

The modules import torch, pandas and the like inside their functions, so that ``--help`` answers at once.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Annotated, Any

import typer

from harness import commands
from harness.commands.error_boundary import DEBUG, CommandGroup
from harness.processes import ending_signals


class _App(typer.Typer):
    """Ends with exit code 130, 143 or 129 where Ctrl-C, SIGTERM or SIGHUP ended the command, after its clean-up."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        restore = ending_signals.install()
        try:
            return super().__call__(*args, **kwargs)
        except SystemExit as end:
            code = ending_signals.exit_code()
            if code is None:
                raise
            raise SystemExit(code) from end
        finally:
            restore()


app = _App(
    cls=CommandGroup,
    help="Compare attentions by speed, memory and accuracy.",
    epilog=f"{DEBUG}, with any command: print the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        from importlib.metadata import version

        typer.echo(version("yoso-harness"))
        raise typer.Exit


@app.callback()
def _of_every_command(
    _: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Compare attentions by speed, memory and accuracy."""


for _module in iter_modules(commands.__path__):
    if _module.name.endswith("_command"):
        import_module(f"{commands.__name__}.{_module.name}").add_to(app)
