"""Which suites of a project ``harness ab`` measures, and the attentions that a project registers as entry points.

pytest's arguments may have two words in braces. ``{suites}`` is the folder of the suites that come with the harness, so
that a project needs none of its own. ``{attentions}`` are the attentions that the measured commit registers, so that a
commit in which one was added can be compared with a commit that does not have it yet.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.core.record_text import clean_text
from harness.core.registry import ATTENTIONS
from harness.gate.judge import thresholds
from harness.gate.judge.thresholds import SettingsError

SUITES, ATTENTION_NAMES = "{suites}", "{attentions}"
FOLDER = "suites"
"""The folder of a project's own suites."""
TABLE = f'[project.entry-points."{ATTENTIONS}"]'
INIT = "harness init writes what is missing"


def arguments(folder: Path, given: Sequence[str]) -> tuple[str, ...]:
    """pytest's arguments: those that were given, else those of ``pyproject.toml``, else the project's own suites.

    Raises:
        SettingsError: the project has none of these. The suites of the harness would measure all attentions of the
            harness, of which no commit of the project changes one; or ``pyproject.toml`` is wrong.
    """
    chosen = tuple(given) or thresholds.load(folder).suite_options
    if chosen:
        return chosen
    if (folder / FOLDER).is_dir():
        return (FOLDER,)
    path = folder / "pyproject.toml"
    names = attentions(path) if path.is_file() else {}
    if not names:
        raise SettingsError(
            f"{folder}: no attention is registered by this repository, and it has no folder {FOLDER}; run harness "
            "init, or name suites behind --"
        )
    raise SettingsError(
        f"{path}: expected suite_options in [tool.harness.gate], which say what is measured of {', '.join(names)}, "
        f"or a folder {FOLDER} beside it, found neither; {INIT}"
    )


def expanded(words: Sequence[str], folder: Path, commit: str) -> list[str]:
    """The arguments for one checkout, in which the words in braces are replaced; an error names ``commit``.

    Raises:
        SettingsError: the attentions of the checkout are asked for, and it registers none.
    """
    replaced = [word.replace(SUITES, str(shipped_suites())) for word in words]
    if not any(ATTENTION_NAMES in word for word in replaced):
        return replaced
    path = folder / "pyproject.toml"
    names = attentions(path) if path.is_file() else {}
    if not names:
        raise SettingsError(
            f"commit {commit[:12]}: expected an attention in {TABLE} of its pyproject.toml, because the options have "
            f"{ATTENTION_NAMES}, found none; compare commits that have one"
        )
    return [word.replace(ATTENTION_NAMES, ",".join(names)) for word in replaced]


def shipped_suites() -> Path:
    """The folder of the suites that come with the harness: inside its package, or beside it in its own checkout."""
    package = Path(__file__).parents[2]
    inside = package / FOLDER
    return inside if inside.is_dir() else package.parent / FOLDER


def attentions(path: Path) -> dict[str, str]:
    """The attentions that a ``pyproject.toml`` registers: the ``module:object`` of each plugin, by its name.

    Raises:
        SettingsError: the file cannot be read, is not TOML, or an entry is not of the form ``module:object``.
    """
    table: Any = read_toml(path)
    for key in ("project", "entry-points", ATTENTIONS):
        table = table.get(key, {}) if isinstance(table, Mapping) else {}
    if not isinstance(table, Mapping):
        raise SettingsError(f'{path}: expected in {TABLE} lines NAME = "module:object", got {clean_text(repr(table))}')
    for name, value in table.items():
        module, _, plugin = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not all(part.strip().isidentifier() for part in (*module.split("."), *plugin.split("."))):
            raise SettingsError(
                f'{path}: expected in {TABLE} "module:object" for {clean_text(name)}, got {clean_text(repr(value))}'
            )
    return dict(table)


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises as ``attentions`` does."""
    try:
        thresholds.parse(path.read_bytes(), str(path))  # says what is wrong with the file or with the gate's table
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: cannot read it: {error.strerror}") from error
