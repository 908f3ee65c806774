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
            if not unknown or not all(_remove(content, place) for place in unknown):
                raise
            names |= {".".join(part for part in place if isinstance(part, str)): None for place in unknown}


def _remove(content: Any, place: Sequence[Any]) -> bool:
    """Remove what pydantic names by this place, and say whether it was there.

    A place has the kind of a spec as a step, which the JSON does not have; where a field has that name, as ``task`` in
    the spec of a task, it holds no fields.
    """
    *path, last = place
    for part in path:
        inner = content[part] if isinstance(content, list) else content.get(part)
        content = inner if isinstance(inner, dict | list) else content
    if not isinstance(content, dict) or last not in content:
        return False
    del content[last]
    return True
