"""What a saved YOSO checkpoint says of itself, beside transformers' fields, and what changes if it is loaded otherwise.

transformers' own YOSO ignores these fields, so it still loads the checkpoint.
"""

from pathlib import Path
from typing import Any

AUTO_CLASSES = {
    "AutoConfig": "YosoConfig",
    "AutoModel": "YosoModel",
    "AutoModelForMaskedLM": "YosoForMaskedLM",
    "AutoModelForMultipleChoice": "YosoForMultipleChoice",
    "AutoModelForQuestionAnswering": "YosoForQuestionAnswering",
    "AutoModelForSequenceClassification": "YosoForSequenceClassification",
    "AutoModelForTokenClassification": "YosoForTokenClassification",
}
"""The class of this package for each of transformers' Auto classes that has one."""

_REQUIRES = "the Python package yoso-harness; call yoso.register() before AutoModel or pipeline loads this checkpoint"
_CODE_MODULE = "yoso_classes"
_CODE = f'''"""The classes of this checkpoint, for trust_remote_code=True; their code is in an installed package."""

try:
    from yoso import {", ".join(AUTO_CLASSES.values())}
except ImportError as error:
    raise ImportError("this checkpoint needs the Python package yoso-harness; install it") from error
'''
_SOFTMAX = "softmax attention"


def record_origin(config: Any) -> None:
    """Write into a configuration that is being saved what its model needs and which attention the model has."""
    config.requires = _REQUIRES
    if config._attn_implementation is not None:
        config.saved_with_attention = config._attn_implementation


def save_code(config: Any, folder: Path) -> None:
    """Add what ``trust_remote_code=True`` needs: a file that imports the classes, and the configuration's map of them.

    The file holds no code of its own, because the models consist of several modules and compiled kernels.
    """
    config.auto_map = {name: f"{_CODE_MODULE}.{class_name}" for name, class_name in AUTO_CLASSES.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{_CODE_MODULE}.py").write_text(_CODE, encoding="utf-8")


def what_another_attention_changes(trained_with: str, runs_with: str) -> str | None:
    """A sentence for weights of one attention that run with another, or None where both compute one function.

    Args:
        trained_with: name of the attention that the weights belong to.
        runs_with: name of the attention that the model has now.
    """
    before, after = _function(trained_with), _function(runs_with)
    if before == after:
        return None
    return (
        f"these weights belong to attention {trained_with!r} ({before}), and the model now runs {runs_with!r} "
        f"({after}), which is another function: its outputs differ and need not be useful before further training. "
        f"attn_implementation={trained_with!r} gives the function of the weights"
    )


def _function(name: str) -> str:
    """What an attention computes, in words; sampled YOSO estimates YOSO-E and counts as the same."""
    if name in ("yoso", "yoso_e", "eager"):  # "eager" is dense YOSO-E in these models
        return "YOSO"
    if name in ("sdpa", "flex_attention") or name.startswith("flash_attention_"):
        return _SOFTMAX
    return f"the function {name!r}"
