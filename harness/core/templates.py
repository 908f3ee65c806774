"""The one way in which pages are made from templates: everything that a template is given is escaped, and a name that
it was not given is an error."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness.core.escaping import isolating, relative_link


def environment(folder: Path, reordering: Iterable[str] = ()) -> Environment:
    """Jinja's environment for the templates in ``folder``.

    Args:
        reordering: names that would reorder the text around them (``escaping.reordering_texts``). They are isolated
            wherever a template prints them, inside a sentence, too.
    """
    isolate = isolating(reordering)

    def finalize(value: Any) -> Any:
        return value if isinstance(value, Markup) else isolate(str(value))

    made = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["relative_link"] = relative_link
    return made
