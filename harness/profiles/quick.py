"""What the profile ``quick`` leaves out, so that it takes minutes on two cores; what is asked for is measured."""

from harness.core.spec import Family, ModelMode, OperationSpec

HEADLINE = ("softmax", "sdpa", "yoso", "yoso_e")
"""Measured alone at each of the profile's lengths, at the longest forward: what the project is there to compare."""
LENGTHS = (512, 1024, 2048)
"""The lengths of every other attention: as few as give an exponent, and none where quadratic ones take minutes."""
COMPILED = ("flex",)
"""Compiled anew for each length, longer than all else that is done with it: at the last of these lengths alone."""
ENCODERS = ("softmax", "sdpa", "yoso", "yoso_e", "none", "linear", "nystromformer", "longformer")
"""In the encoder: exact attention and YOSO, the floor, and of features, landmarks and windows one each. The rest of a
model costs the same with all, so what another attention saves there follows from it alone."""
LONG = 4096
"""At this length the headline alone, in the encoder too,"""
LONG_BACKWARD = ("sdpa", "yoso")
"""and forward and backward, or a step of training, these: a call of the others takes more than a second."""
HEADS = ("sdpa", "yoso", "yoso_e")
"""Under task heads: exact attention as it is used, and both YOSO."""
TRAINED = ("softmax", "yoso", "yoso_e")
"""In the task: the reference of scores, and both YOSO. The fused softmax is the same function."""


def has(spec: OperationSpec) -> bool:
    """Whether the attention alone is measured at this one of the profile's lengths."""
    if spec.seq_len == LONG:
        return spec.attention in (HEADLINE if spec.mode == "forward" else LONG_BACKWARD)
    if spec.attention in HEADLINE:
        return True
    return spec.seq_len == LENGTHS[-1] if spec.attention in COMPILED else spec.seq_len in LENGTHS


def encoders(seq_len: int, mode: ModelMode) -> tuple[str, ...]:
    """The attentions in the bare encoder."""
    if seq_len == LONG:
        return HEADLINE if mode == "forward" else LONG_BACKWARD
    return ENCODERS


def too_slow(family: Family, seq_len: int, mode: ModelMode) -> bool:
    """A training step of transformers' models at 4096 would take a tenth of the whole profile."""
    return family != "yoso" and mode == "training_step" and seq_len >= LONG
