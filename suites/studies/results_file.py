"""The results of a study in one JSON file, which is whole at any moment, so that an interrupted study goes on."""

import os
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

Study = TypeVar("Study", bound=BaseModel)


def save(study: BaseModel, path: Path) -> Path:
    """Write the results, all or nothing: an interruption leaves the file of before."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(study.model_dump_json(indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def read(kind: type[Study], path: Path) -> Study:
    """The results in an existing file.

    Raises:
        ValueError: it has no results of this kind; the message names the first wrong place.
    """
    try:
        return kind.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(
            f"{path}: expected results of this study, got at {place}: {first['msg']}; move the file away or choose "
            "another --out"
        ) from None
