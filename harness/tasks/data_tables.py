"""Tables of examples in the file formats of the ``datasets`` library: csv, tsv, parquet, json and jsonl."""

import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SUFFIXES = ("parquet", "tsv", "csv", "json", "jsonl")


def read(task: str, path: Path, columns: Sequence[str]) -> dict[str, list[Any]]:
    """These columns of a table.

    Raises:
        ValueError: the ``datasets`` library is missing, or the file cannot be read, or it lacks a column.
    """
    if find_spec("datasets") is None:
        raise ValueError(
            f'{task}: the datasets library is missing, which reads {path.name}; pip install "yoso-harness[tasks]"'
        )
    formats: dict[str, tuple[str, dict[str, Any]]] = {
        "parquet": ("parquet", {}),
        "tsv": ("csv", {"sep": "\t", "quoting": 3, "keep_default_na": False}),
        "csv": ("csv", {"keep_default_na": False}),
        "json": ("json", {}),
        "jsonl": ("json", {}),
    }
    loader, options = formats[path.suffix.removeprefix(".")]
    table = _load(task, path, loader, options)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise ValueError(f"{task}: {path.name} has no column {missing}; it has {table.column_names}")
    return {name: list(table[name]) for name in columns}


def _load(task: str, path: Path, loader: str, options: dict[str, Any]) -> Any:
    import datasets
    from pyarrow import ArrowInvalid

    shown = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        with tempfile.TemporaryDirectory(prefix="harness-datasets-") as cache:
            return datasets.load_dataset(
                loader, data_files=str(path), split="train", cache_dir=cache, keep_in_memory=True, **options
            )
    except (datasets.exceptions.DatasetGenerationError, ArrowInvalid) as error:
        reason = error.__cause__ or error
        raise ValueError(f"{task}: {path.name} is no readable table of its suffix's format: {reason}") from error
    finally:
        if shown:
            datasets.enable_progress_bars()
