"""YOSO attention (Zeng et al., ICML 2021, arXiv 2111.09714) and its models on transformers' interfaces.

The public names are imported on first use, so that ``import yoso`` is fast and loads no torch. The attentions are
registered in transformers' ``AttentionInterface`` (as ``"yoso"`` and ``"yoso_e"``) when a YOSO model class is loaded;
for another library's model, ``import yoso.transformers_attention`` registers them. ``yoso.register()`` lets
transformers' Auto classes and pipelines load YOSO checkpoints with these models.

PYTEST_DONT_REWRITE: ``harness run`` starts pytest after this module is imported; without this marker pytest would warn
that it cannot rewrite the module's assertions.
"""

from importlib import import_module
from typing import Any

from yoso import moved_modules  # noqa: F401  old module names work or say what they are now

_MODULE_OF = {
    "YosoConfig": "yoso.models.auto_classes",
    "YosoForMaskedLM": "yoso.models.masked_lm",
    "YosoForMultipleChoice": "yoso.models.heads",
    "YosoForQuestionAnswering": "yoso.models.heads",
    "YosoForSequenceClassification": "yoso.models.heads",
    "YosoForTokenClassification": "yoso.models.heads",
    "YosoModel": "yoso.models.encoder",
    "YosoPreTrainedModel": "yoso.models.encoder",
    "expectation_weights": "yoso.attention",
    "register": "yoso.models.auto_classes",
    "unregister": "yoso.models.auto_classes",
    "yoso_e": "yoso.attention",
    "yoso_sampling": "yoso.attention",
}
__all__ = [
    "YosoConfig",
    "YosoForMaskedLM",
    "YosoForMultipleChoice",
    "YosoForQuestionAnswering",
    "YosoForSequenceClassification",
    "YosoForTokenClassification",
    "YosoModel",
    "YosoPreTrainedModel",
    "expectation_weights",
    "register",
    "unregister",
    "yoso_e",
    "yoso_sampling",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module; ``__version__`` is that of the installed distribution."""
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("yoso-harness")
        except PackageNotFoundError as error:
            raise AttributeError("yoso.__version__ needs an installation: pip install -e .") from error
    if name in _MODULE_OF:
        return getattr(import_module(_MODULE_OF[name]), name)
    raise AttributeError(f"module 'yoso' has no attribute {name!r}; its public names are {', '.join(_MODULE_OF)}")
