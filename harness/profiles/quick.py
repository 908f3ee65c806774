"""The profile ``quick``: what the project compares, in minutes on two cores."""

from harness.core.spec import Effort, ModelMode, ModelSpec, OperationSpec
from harness.profiles.profile import ModelSize, ModelSweep, OperationSweep, Profile, QualitySweep, Training

HEADLINE = ("softmax", "sdpa", "yoso", "yoso_e")
"""What the report's first sentence compares: measured alone at every length, at the longest one forward only."""
OTHER_LENGTHS = (128, 512, 1024)
"""The lengths of every other attention: three are the fewest that give a scaling exponent, and at 2,048 tokens the
quadratic ones would take minutes."""
COMPILED = ("flex",)
"""Attentions that are compiled again for each length, which takes longer than the rest of the case: they are measured
at the last of ``OTHER_LENGTHS`` only."""
ENCODERS = ("softmax", "sdpa", "yoso", "yoso_e", "none", "linear", "nystromformer", "longformer")
"""The attentions inside the encoder: exact attention, both YOSO, no attention at all, and one attention each that works
with features, landmarks and windows. The rest of the model costs the same with every attention, so the cost of a model
with another attention follows from that attention's own time."""
LONG = 4096
"""At this length only ``HEADLINE`` is measured."""
COMPARED_LENGTHS = (128, 512, 1024, 2048)
"""The lengths of attentions that the user names, beside their companions: at ``LONG`` these alone take half a minute,
as long as all of these lengths."""
LONG_BACKWARD = ("sdpa", "yoso")
"""At ``LONG``, forward and backward, only these: a call of the others takes over a second."""
LONG_ENCODERS = ("sdpa", "yoso", "yoso_e")
"""The attentions of the encoder at ``LONG``, forward only."""
HEADS = ("sdpa", "yoso", "yoso_e")
"""The attentions under task heads."""
TRAINED = ("softmax", "yoso", "yoso_e")
"""The attentions that the task is trained with; fused softmax would give the same scores as softmax."""


def keeps(spec: OperationSpec) -> bool:
    """Whether the attention alone is measured in this case."""
    if spec.seq_len == LONG:
        return spec.attention in (HEADLINE if spec.mode == "forward" else LONG_BACKWARD)
    if spec.attention in HEADLINE:
        return True
    return spec.seq_len == OTHER_LENGTHS[-1] if spec.attention in COMPILED else spec.seq_len in OTHER_LENGTHS


def leaves_out(spec: OperationSpec) -> str | None:
    """Why a timed setting has no case of its error; None: it has one."""
    if spec.attention in COMPILED:
        return (
            f"{spec.attention} is compiled again for each kind of inputs, which takes longer than all other errors; "
            "that of its timed calls is among their checks, and flex_eager is the same function without the compiler"
        )
    return None


def encoder_attentions(seq_len: int, mode: ModelMode) -> tuple[str, ...]:
    """The attentions of the encoder at a length and mode."""
    if seq_len == LONG:
        return LONG_ENCODERS if mode == "forward" else ()
    return ENCODERS


def keeps_rival(spec: ModelSpec) -> bool:
    """Not a training step at ``LONG``: those of transformers' models would take a tenth of the profile's time."""
    return spec.mode == "forward" or spec.seq_len < LONG


PROFILE = Profile(
    name="quick",
    summary="minutes on two cores",
    # Verification has called every case three times before its warm-up begins.
    effort=Effort(min_samples=3, max_samples=30, seconds=0.25, warmup_calls=1, warmup_seconds=0.05),
    operation=OperationSweep(lengths=(128, 512, 1024, 2048, 4096), compared_lengths=COMPARED_LENGTHS, keeps=keeps),
    model=ModelSweep(
        size=ModelSize(layers=2, hidden_size=256, heads=4),
        encoder_lengths=(128, 1024, 4096),
        encoder_attentions=encoder_attentions,
        head_lengths=(1024,),
        head_attentions=HEADS,
        keeps_rival=keeps_rival,
    ),
    quality=QualitySweep(lengths=(512,), draws=4, recorded_layers=8, leaves_out=leaves_out),
    task=Training("needle", seq_len=64, steps=300, seeds=2, train_examples=4000, eval_examples=500, attentions=TRAINED),
)
