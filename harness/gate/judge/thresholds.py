"""The gate's thresholds: ``[tool.harness.gate]`` in the project's ``pyproject.toml``.

::

    [tool.harness.gate]
    false_discovery_rate = 0.01
    time = { floor = 0.05 }
    build = ["{python} setup.py build_ext --inplace"]
    [[tool.harness.gate.cases]]
    pattern = "model/*"
    time = { floor = 0.08 }
    memory = false

``pattern`` is a shell pattern of case ids. If several patterns fit a case, the last one that names a metric applies.
"""

import tomllib
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.gate.judge.gated_metrics import METRICS, Metric


class SettingsError(ValueError):
    """Invalid thresholds: the file and key, what is expected, and what was given."""


class Threshold(BaseModel):
    """Replaces the fields of these names of ``Metric``; None keeps the metric's own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    floor: float | None = Field(default=None, ge=0)
    spread: float | None = Field(default=None, ge=0)
    spread_apart: float | None = Field(default=None, ge=0)


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
        if (candidate / "pyproject.toml").is_file():
            return _read(candidate / "pyproject.toml")
    return Settings()


def _read(path: Path) -> Settings:
    try:
        table: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path.name}: not TOML: {error}") from error
    for key in ("tool", "harness", "gate"):
        table = table.get(key, {}) if isinstance(table, dict) else table
    try:
        return Settings.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("tool.harness.gate", *first["loc"]))
        raise SettingsError(f"{path.name}: {where}: {first['msg']}, got {first['input']!r}") from error
