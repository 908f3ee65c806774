"""The gate's thresholds: ``[tool.harness.gate]`` in the project's ``pyproject.toml``.

::

    [tool.harness.gate]
    false_discovery_rate = 0.01
    time = { floor = 0.05 }
    build = ["{python} setup.py build_ext --inplace"]
    suite_options = ["{suites}", "--attention={attentions}"]
    [[tool.harness.gate.cases]]
    pattern = "model/*"
    time = { floor = 0.08 }
    memory = false

``pattern`` is a shell pattern of case ids. If several patterns fit a case, the last one that names a metric applies.

Head is judged by base's table, so that a commit cannot loosen its own gate; ``build`` and ``suite_options`` are read
where the command runs. ``harness.gate.commits.project_suites`` says what the words in braces are.
"""

import re
import tomllib
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.core import git
from harness.core.record_text import clean_text
from harness.gate.judge.gated_metrics import METRICS, Metric

ERROR_LENGTH = 120
"""Characters of a key, of a value or of a parser's message that an error has."""
LARGEST_THRESHOLD = 1e9
"""Far above every threshold that could be meant; infinity would pass everything, and overflow on the way."""
_COMMIT_ID = re.compile("[0-9a-f]{4,64}")


class SettingsError(ValueError):
    """Invalid thresholds: the file and key, what is expected, and what was given."""


class Threshold(BaseModel):
    """Replaces the fields of these names of ``Metric``; None keeps the metric's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor: float | None = Field(default=None, ge=0, le=LARGEST_THRESHOLD)
    spread: float | None = Field(default=None, ge=0, le=LARGEST_THRESHOLD)
    spread_apart: float | None = Field(default=None, ge=0, le=LARGEST_THRESHOLD)


class _PerMetric(BaseModel):
    """One threshold per metric. False: the metric is not gated; None: the threshold is not changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    time: Threshold | Literal[False] | None = None
    memory: Threshold | Literal[False] | None = None
    check: Threshold | Literal[False] | None = None
    error: Threshold | Literal[False] | None = None
    accuracy: Threshold | Literal[False] | None = None
    compile_time: Threshold | Literal[False] | None = None
    launches: Threshold | Literal[False] | None = None
    operators: Threshold | Literal[False] | None = None


class CaseThresholds(_PerMetric):
    """Thresholds of the cases whose id matches ``pattern``."""

    pattern: str = Field(min_length=1)


class Settings(_PerMetric):
    """The whole table ``[tool.harness.gate]``."""

    false_discovery_rate: float = Field(default=0.01, gt=0, lt=0.5)
    cases: tuple[CaseThresholds, ...] = ()
    build: tuple[str, ...] = Field(default=(), description="commands that build a checkout; {python}: this interpreter")
    suite_options: tuple[str, ...] = Field(default=(), description="what ab measures if it is called without options")

    @model_validator(mode="after")
    def _every_metric_has_a_threshold(self) -> Self:
        missing = set(METRICS) - set(_PerMetric.model_fields)
        if missing:
            raise ValueError(f"metrics without a threshold: {sorted(missing)}")
        return self

    def threshold(self, metric: str, case_id: str) -> Metric | None:
        """The metric with the thresholds that apply to a case; None if it is not gated."""
        chosen: Metric | None = METRICS[metric]
        for rules in (self, *(rules for rules in self.cases if fnmatchcase(case_id, rules.pattern))):
            threshold = getattr(rules, metric)
            if threshold is False:
                chosen = None
            elif threshold is not None:
                chosen = replace(chosen or METRICS[metric], **threshold.model_dump(exclude_none=True))
        return chosen


def load(folder: Path) -> Settings:
    """The settings in the ``pyproject.toml`` of ``folder`` or of the nearest parent that has one; else the defaults.

    Raises:
        SettingsError: the file is not TOML, or the table has an unknown key or an invalid value.
    """
    for candidate in (folder, *folder.parents):
        path = candidate / "pyproject.toml"
        if path.is_file():
            try:
                return parse(path.read_bytes(), str(path))
            except OSError as error:
                raise SettingsError(f"{path}: cannot read it: {error.strerror}") from error
    return Settings()


def parse(data: bytes, name: str) -> Settings:
    """The settings in the text of a ``pyproject.toml``, which messages call ``name``; raises as ``load`` does."""
    try:
        table: Any = tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise SettingsError(f"{name}: expected TOML, found other bytes than UTF-8 at offset {error.start}") from error
    except (ValueError, RecursionError) as error:  # also numbers of too many digits
        raise SettingsError(f"{name}: not TOML: {clean_text(error)[:ERROR_LENGTH]}") from error
    for key in ("tool", "harness", "gate"):
        table = table.get(key, {}) if isinstance(table, dict) else table
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = clean_text(".".join(str(part) for part in ("tool.harness.gate", *first["loc"])))
        found = clean_text(repr(first["input"]))
        raise SettingsError(
            f"{name}: {where[:ERROR_LENGTH]}: {clean_text(first['msg'])}, got {found[:ERROR_LENGTH]}"
        ) from error


def of_base(base: Settings, head: Settings) -> tuple[Settings, tuple[str, ...]]:
    """The settings by which head is judged, which are base's, and a note on each threshold that head changes.

    A commit must not decide how much slower it may be. Its own thresholds apply from the next commit on.
    """
    return base, tuple(f"head changes a threshold, and base's applies: {change}" for change in _changes(base, head))


def of_commits(folder: Path, base: str | None, head: str | None) -> tuple[Settings, tuple[str, ...]]:
    """As ``of_base``, for two stored runs that name their commits.

    Args:
        folder: the project's folder.
        base: base's commit, which may end with ``+dirty``; None: not known.
        head: head's commit.

    Returns:
        The settings and the notes. Where git does not have base's commit, the settings are those of ``folder``, and a
        note says so if they are not the defaults.

    Raises:
        SettingsError: as for ``load``.
    """
    of_commit = {name: _at_commit(folder, commit) for name, commit in (("base", base), ("head", head))}
    if of_commit["base"] is not None:
        return of_base(of_commit["base"], of_commit["head"] or of_commit["base"])
    here = load(folder)
    if here == Settings():
        return here, ()
    return here, (
        f"the thresholds are those of {folder}: base's commit {base or '(not recorded)'} is not in its repository",
    )


def _at_commit(folder: Path, commit: str | None) -> Settings | None:
    """The settings that ``load`` would find in ``folder`` at a commit; None where git does not have the commit."""
    revision = (commit or "").partition("+")[0]
    try:
        known = _COMMIT_ID.fullmatch(revision) and git.run(folder, "cat-file", "-e", f"{revision}^{{commit}}").ok
    except OSError:  # git is not installed
        return None
    if not known:
        return None
    inside = git.run(folder, "rev-parse", "--show-prefix").stdout.strip()
    for depth in range(len(Path(inside).parts) + 1):
        path = "./" + "../" * depth + "pyproject.toml"
        found = git.run(folder, "show", f"{revision}:{path}")
        if found.ok:
            return parse(found.stdout.encode("utf-8", "replace"), f"{path} of commit {revision[:12]}")
    return Settings()


def _changes(base: Settings, head: Settings) -> list[str]:
    """What differs between two tables, without ``build`` and ``suite_options``: the key, base's value and head's."""
    values = [_by_key(settings) for settings in (base, head)]
    changes = [
        f"{key}: base has {_words(values[0].get(key))}, head {_words(values[1].get(key))}"
        for key in dict.fromkeys([*values[0], *values[1]])
        if values[0].get(key) != values[1].get(key)
    ]
    return changes or (["the order of its patterns of cases"] if base.cases != head.cases else [])


def _by_key(settings: Settings) -> dict[str, object]:
    values = settings.model_dump(exclude={"build", "suite_options", "cases"}, exclude_none=True)
    for rules in settings.cases:
        own = rules.model_dump(exclude={"pattern"}, exclude_none=True)
        values |= {f"{metric} of cases {rules.pattern}": value for metric, value in own.items()}
    return values


def _words(value: object) -> str:
    if value is None:
        return "the default"
    if value is False:
        return "no gate"
    return ", ".join(f"{key} {part:g}" for key, part in value.items()) if isinstance(value, dict) else f"{value:g}"
