"""The ``harness`` command. A module ``*_command`` of this package adds its subcommand with a function ``add_to(app)``.

The modules import torch, pandas and the like inside their functions, so that ``--help`` answers at once.
"""

from importlib import import_module
from pkgutil import iter_modules

import typer

from harness import commands
from harness.commands.error_boundary import DEBUG, CommandGroup

app = typer.Typer(
    cls=CommandGroup,
    help="Compare attentions by speed, memory and accuracy.",
    epilog=f"{DEBUG}, with any command: print the traceback of an error.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for _module in iter_modules(commands.__path__):
    if _module.name.endswith("_command"):
        import_module(f"{commands.__name__}.{_module.name}").add_to(app)
