"""YOSO attention (Zeng et al., ICML 2021, arXiv 2111.09714) and its models on transformers' interfaces.

The public names load on first use, so that ``import yoso`` costs nothing. The attentions register themselves in
transformers' ``AttentionInterface`` (as ``"yoso"`` and ``"yoso_e"``) when a model class is loaded, or with
``import yoso.transformers_attention`` for another library's model.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "YosoConfig": "yoso.models.config",
    "YosoForMaskedLM": "yoso.models.masked_lm",
    "YosoForMultipleChoice": "yoso.models.heads",
    "YosoForQuestionAnswering": "yoso.models.heads",
    "YosoForSequenceClassification": "yoso.models.heads",
    "YosoForTokenClassification": "yoso.models.heads",
    "YosoModel": "yoso.models.encoder",
    "YosoPreTrainedModel": "yoso.models.encoder",
    "expectation_weights": "yoso.attention",
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
    "yoso_e",
    "yoso_sampling",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'yoso' has no attribute {name!r}; it has {sorted(_HOME)}")
