"""The one way in which pages are made from templates: everything that a template is given is escaped, and a name that
it was not given is an error."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from harness.core.escaping import relative_link


def environment(folder: Path) -> Environment:
    """Jinja's environment for the templates in ``folder``."""
    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["relative_link"] = relative_link
    return made
