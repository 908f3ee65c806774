"""What the profile ``standard`` leaves out of lengths and attentions, so that two cores take it in an hour and a half;
what is asked for is measured."""

from harness.core import registry
from harness.core.spec import Family, ModelMode, OperationSpec
from harness.profiles.quick import ENCODERS

LONGEST = 16384
"""Here a quadratic attention takes minutes a case: two that are fused stand for all."""
QUADRATIC = ("sdpa", "yoso_e")
PADDED = (2048,)
"""Lengths at which the attention alone is measured with a quarter padded, too."""
ENCODERS_AT_LENGTH = ("yoso", "yoso_e")
"""In a base-size encoder of 4,096 tokens, beside transformers' BERT and YOSO."""
LENGTH = 4096
HEADS_AT = (512,)


def has(spec: OperationSpec) -> bool:
    """Whether the attention alone is measured in this case."""
    if spec.padding:
        return spec.seq_len in PADDED
    return spec.seq_len < LONGEST or spec.attention in QUADRATIC or not _quadratic(spec)


def _quadratic(spec: OperationSpec) -> bool:
    """Whether twice the length takes more than three times the work, by the attention's own count."""
    plugin = registry.get(spec.attention)
    once, twice = plugin.cost(spec), plugin.cost(spec.model_copy(update={"seq_len": 2 * spec.seq_len}))
    return once is not None and twice is not None and any(twice[name] > 3 * once[name] for name in once)


def encoders(seq_len: int, mode: ModelMode) -> tuple[str, ...]:
    """The attentions in the bare encoder: as in ``quick``, but for the longest, and the same in both modes."""
    return ENCODERS_AT_LENGTH if seq_len == LENGTH else ENCODERS


def too_slow(family: Family, seq_len: int, mode: ModelMode) -> bool:
    """A training step of transformers' YOSO at base size and 4,096 tokens takes minutes."""
    return family == "transformers_yoso" and mode == "training_step" and seq_len >= LENGTH
