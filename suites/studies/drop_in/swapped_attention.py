"""A student: a copy of the pretrained model with another attention in every layer, and no other change."""

import copy

from transformers import PreTrainedModel

from harness.core import registry
from harness.core.knobs import plain_knobs
from harness.core.spec import OperationSpec, Scalar, Swap
from harness.models import transformers_seam


def layer_case(swap: Swap, model: PreTrainedModel, longest: int) -> OperationSpec:
    """The operation case of every layer of the student; ``longest`` decides the defaults that depend on the length."""
    heads = model.config.num_attention_heads
    return OperationSpec(
        attention=swap.attention,
        knobs=swap.knobs,
        seq_len=longest,
        heads=heads,
        head_dim=model.config.hidden_size // heads,
        mode="forward_backward",
        padding=0.5,  # texts differ in length; how much of a batch is padding makes no difference to any attention
    )


def reason_against(swap: Swap, model: PreTrainedModel, longest: int) -> str | None:
    """Why the attention cannot run in this model, or None.

    Raises:
        RegistryError: the attention is unknown.
    """
    plugin, case = registry.get(swap.attention), layer_case(swap, model, longest)
    try:
        plain_knobs(plugin, case)
    except ValueError as error:
        return str(error)
    reasons = plugin.unsupported(case)
    if not reasons and transformers_seam.own_weights(case):
        reasons = [f"{swap.attention} has weights of its own, and a model trained for softmax does not have them"]
    return "; ".join(reasons) or None


def all_knobs(swap: Swap, model: PreTrainedModel, longest: int) -> dict[str, Scalar]:
    """The knobs that the student runs with, the defaults included."""
    return plain_knobs(registry.get(swap.attention), layer_case(swap, model, longest))


def make_student(swap: Swap, model: PreTrainedModel, longest: int) -> PreTrainedModel:
    """The copy. Every knob is in its configuration, where all layers and all lengths of text find the same value.

    Raises:
        ValueError: the configuration has an entry of a knob's name that means something else.
    """
    student = copy.deepcopy(model)
    for knob, value in all_knobs(swap, model, longest).items():
        if hasattr(student.config, knob):
            raise ValueError(
                f"knob {knob!r} of attention {swap.attention!r}: {type(model.config).__name__} has an entry of that "
                "name with another meaning; leave the attention out"
            )
        setattr(student.config, knob, value)
    transformers_seam.attach(student, swap.attention)
    return student
