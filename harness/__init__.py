"""Measure any attention: speed, memory and accuracy, from the operation to the trained model.

The public names are imported on first use, so that ``import harness`` is fast.

PYTEST_DONT_REWRITE: ``harness run`` starts pytest after this module is imported; without this marker pytest would warn
that it cannot rewrite the module's assertions.
"""

from importlib import import_module
from typing import Any

from harness import old_module_names
from yoso import moved_modules

_HOME = {
    "AttentionPlugin": "harness.core.plugin",
    "OperationSpec": "harness.core.spec",
    "ModelSpec": "harness.core.spec",
    "QualitySpec": "harness.core.spec",
    "TaskSpec": "harness.core.spec",
    "Record": "harness.core.record",
}
__all__ = ["AttentionPlugin", "ModelSpec", "OperationSpec", "QualitySpec", "Record", "TaskSpec"]

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
