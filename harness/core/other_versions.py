"""Records that another version of the harness wrote: what this version does not know of them is left out, and named."""

from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

Model = TypeVar("Model", bound=BaseModel)


def known_part(model: type[Model], content: Any) -> tuple[Model, list[str]]:
    """The model in ``content``, and the names of the fields that it has and this version's model does not.

    A newer version adds fields, which have defaults, so that what is left is what an older version would have written.

    Args:
        model: the model to validate.
        content: parsed JSON; its unknown fields are removed.

    Raises:
        ValidationError: the content is no such model, also without its unknown fields.
    """
    names: dict[str, None] = {}
    while True:
        try:
            return model.model_validate(content), [*names]
        except ValidationError as error:
            unknown = [entry["loc"] for entry in error.errors(include_url=False) if entry["type"] == "extra_forbidden"]
            if not unknown:
                raise
            for place in unknown:
                _remove(content, place)
                names[".".join(part for part in place if isinstance(part, str))] = None


def _remove(content: Any, place: Sequence[Any]) -> None:
    """Remove what pydantic names by this place, in which the kind of a spec is a step that the JSON does not have."""
    *path, last = place
    for part in path:
        if isinstance(content, list) or part in content:
            content = content[part]
    del content[last]
