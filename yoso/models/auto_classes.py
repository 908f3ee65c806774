"""The YOSO models behind transformers' Auto classes and pipelines.

transformers has a YOSO of its own with the same ``model_type``, "yoso", and its Auto classes find the model by the name
of the configuration's class, which is the same as well. Importing this module tells them which models belong to
``yoso.YosoConfig``, so that ``AutoModel.from_config(yoso.YosoConfig())`` builds them. Which configuration a checkpoint
gets changes with ``register`` only.
"""

import transformers
from transformers import AutoConfig
from transformers.models.yoso import YosoConfig as TransformersYosoConfig

import yoso
from yoso.models.checkpoint import AUTO_CLASSES
from yoso.models.config import YosoConfig

__all__ = ["YosoConfig", "register", "unregister"]


def register() -> None:
    """Let ``AutoConfig``, ``AutoModel*`` and ``pipeline`` load every YOSO checkpoint with the classes of this package.

    It holds for this process and for the checkpoints of either library, and may be called any number of times.
    transformers' own YOSO is still there under the names of its classes, such as ``transformers.YosoModel``.
    """
    AutoConfig.register(YosoConfig.model_type, YosoConfig, exist_ok=True)


def unregister() -> None:
    """Undo ``register``: the Auto classes load YOSO checkpoints with transformers' own classes again."""
    AutoConfig.register(YosoConfig.model_type, TransformersYosoConfig, exist_ok=True)


for _name, _class_name in AUTO_CLASSES.items():
    if _name != "AutoConfig":
        getattr(transformers, _name).register(YosoConfig, getattr(yoso, _class_name), exist_ok=True)
