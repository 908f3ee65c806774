"""Measure any attention: speed, memory and accuracy, from the operation to the trained model.

The public names are imported on first use, so that ``import harness`` is fast.

PYTEST_DONT_REWRITE: ``harness run`` starts pytest after this module is imported; without this marker pytest would warn
that it cannot rewrite the module's assertions.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from harness import old_module_names
from yoso import moved_modules

if TYPE_CHECKING:
    from harness.api.compare import compare
    from harness.api.comparison_result import ComparisonResult
    from harness.api.run_cases import run
    from harness.core.plugin import AttentionPlugin
    from harness.core.record import Record, Run
    from harness.core.spec import Effort, ModelSpec, OperationSpec, QualitySpec, TaskSpec

_HOME = {
    "AttentionPlugin": "harness.core.plugin",
    "ComparisonResult": "harness.api.comparison_result",
    "Effort": "harness.core.spec",
    "OperationSpec": "harness.core.spec",
    "ModelSpec": "harness.core.spec",
    "QualitySpec": "harness.core.spec",
    "TaskSpec": "harness.core.spec",
    "Record": "harness.core.record",
    "Run": "harness.core.record",
    "compare": "harness.api.compare",
    "run": "harness.api.run_cases",
}
__all__ = [
    "AttentionPlugin",
    "ComparisonResult",
    "Effort",
    "ModelSpec",
    "OperationSpec",
    "QualitySpec",
    "Record",
    "Run",
    "TaskSpec",
    "compare",
    "run",
]

moved_modules.register(old_module_names.ALIASES, old_module_names.MOVED)


def __getattr__(name: str) -> Any:
    """Import a public name from its module; ``__version__`` is that of the installed distribution."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("yoso-harness")
        except PackageNotFoundError as error:
            raise AttributeError("harness.__version__ needs an installation: pip install -e .") from error
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'harness' has no attribute {name!r}; it has {sorted(_HOME)}")
