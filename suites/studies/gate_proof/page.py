"""The proof as one HTML page: every number in it is one of the JSON's."""

from typing import Any

import jinja2


def html(proof: dict[str, Any]) -> str:
    """The page of a ``proof.json``."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("suites.studies.gate_proof", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("proof.html").render(proof=proof, percent=_percent, interval=_interval)


def _percent(rate: dict[str, Any]) -> str:
    return f"{rate['share']:.1%}"


def _interval(rate: dict[str, Any]) -> str:
    low, high = rate["interval"]
    return f"{low:.1%} to {high:.1%}"
