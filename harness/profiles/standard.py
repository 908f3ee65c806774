"""The profile ``standard``: lengths to 16,384, padding and base-size models, in an hour and a quarter on two cores."""

from harness.core import registry
from harness.core.spec import Effort, ModelMode, ModelSpec, OperationSpec
from harness.profiles.profile import BASE_SIZE, ModelSweep, OperationSweep, Profile, QualitySweep, Training, swaps
from harness.profiles.quick import ENCODERS, HEADLINE, leaves_out

LONGEST = 16384
"""At this length a quadratic attention takes minutes per case, so only ``QUADRATIC`` are measured of those."""
QUADRATIC = ("sdpa", "yoso_e")
PADDED = (2048,)
"""Lengths at which the attention alone is also measured with a quarter of each sequence padded."""
LONG = 4096
"""The encoder's longest length."""
LONG_ENCODERS = ("yoso", "yoso_e")
"""The attentions of the encoder at ``LONG``, beside transformers' BERT and YOSO."""


def keeps(spec: OperationSpec) -> bool:
    """Whether the attention alone is measured in this case."""
    if spec.padding:
        return spec.seq_len in PADDED
    return spec.seq_len < LONGEST or spec.attention in QUADRATIC or not _is_quadratic(spec)


def _is_quadratic(spec: OperationSpec) -> bool:
    """Whether twice the length takes more than three times the work, by the plugin's own count."""
    try:
        plugin = registry.get(spec.attention)
        cost, doubled = plugin.cost(spec), plugin.cost(spec.model_copy(update={"seq_len": 2 * spec.seq_len}))
        return cost is not None and doubled is not None and any(doubled[name] > 3 * cost[name] for name in cost)
    except KeyboardInterrupt:
        raise
    except BaseException:  # the case is kept, and its record says what the plugin raised
        return False


def encoder_attentions(seq_len: int, mode: ModelMode) -> tuple[str, ...]:
    """The attentions of the encoder at a length, the same in both modes."""
    return LONG_ENCODERS if seq_len == LONG else ENCODERS


def keeps_rival(spec: ModelSpec) -> bool:
    """Not a training step of transformers' YOSO at ``LONG``, which takes minutes."""
    return not (spec.family == "transformers_yoso" and spec.mode == "training_step" and spec.seq_len >= LONG)


PROFILE = Profile(
    name="standard",
    summary="lengths to 16,384, padding, base-size models: an hour and a quarter on two cores",
    # Calls of many seconds get three samples; calls under a tenth of a second get ten or more, enough for an interval.
    effort=Effort(min_samples=3, max_samples=100, seconds=1.0, warmup_calls=1, warmup_seconds=0.1),
    operation=OperationSweep(
        lengths=(128, 256, 512, 1024, 2048, 4096, 8192, 16384),
        paddings=(0.0, 0.25),
        budget_lengths=(512, 2048),
        keeps=keeps,
    ),
    model=ModelSweep(
        size=BASE_SIZE,
        encoder_lengths=(128, 512, 1024, LONG),
        encoder_attentions=encoder_attentions,
        head_lengths=(512,),
        head_attentions=HEADLINE,
        keeps_rival=keeps_rival,
    ),
    quality=QualitySweep(lengths=(512, 2048), draws=16, timed_draws=4, leaves_out=leaves_out),
    task=Training(
        "needle",
        seq_len=128,
        steps=800,
        seeds=3,
        train_examples=10000,
        eval_examples=1000,
        attentions=HEADLINE,
        swaps=swaps,
    ),
)
