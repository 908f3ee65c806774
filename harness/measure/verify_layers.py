"""Verification of the attention inside a model: the call of every layer against the attention's oracle.

An attention may be right as an operation and something else inside a model. So the layers' own calls are recorded
during a call of the whole model, in the mode in which it is measured, and verified like a timed call
(``harness.measure.recorded_call``): outputs, and in a training step the gradients of q, k and v.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import OperationSpec
from harness.measure import recorded_call, verify
from harness.measure.recorded_call import RecordedCall
from harness.measure.sampled_rows import GRADIENTS
from harness.measure.watched_attention import WatchedCall, watched
from harness.models.transformers_seam import LayerAttention
from yoso.torch_private import child_module

LEAST_ROWS = 4
"""Rows of each sequence that are compared, at least; a large batch has fewer than an operation case."""


def check(
    plugin: AttentionPlugin,
    case: OperationSpec,
    model: PreTrainedModel,
    run: Callable[[], Any],
    weighted: Sequence[LayerAttention] = (),
    when: str = "",
) -> list[Check]:
    """Run the model once and verify the attention of every layer.

    Args:
        plugin: gives the oracle.
        case: the operation case of a layer; sizes and dtype are taken from the layers' calls.
        model: the model.
        run: calls it.
        weighted: the attention of each layer, if it has weights of its own; they must still have their initial values.
        when: appended to the names of the checks.

    Returns:
        The checks; of the same check of several layers those that failed, or else the one nearest to its limit. None if
        the model contains an attention of its own.
    """
    initial = [deepcopy(layer.module.state_dict()) for layer in weighted]
    with watched(model) as calls:
        run()
    for layer, weights in zip(weighted, initial, strict=True):
        layer.module.load_state_dict(weights)  # a training step has changed them
    if not calls:
        return []
    cases = {layer.module: layer.case for layer in weighted}
    checks = _unused_weights(plugin, calls, list(cases), when) if cases else []
    of_layers = []
    for number, call in enumerate(calls, start=1):
        own = child_module(call.layer, plugin.name)
        for found in _check_layer(plugin, cases.get(own) if own else None, case, call):
            of_layers.append(found.inside(f"layers{when}", f"layer {number} of {len(calls)}"))
    return checks + verify.worst_by_name(of_layers)


def _unused_weights(
    plugin: AttentionPlugin, calls: list[WatchedCall], modules: list[nn.Module], when: str
) -> list[Check]:
    """Whether every layer's module of the attention was called."""
    used = {id(child_module(call.layer, plugin.name)) for call in calls}
    share = sum(id(module) not in used for module in modules) / len(modules)
    what = f"share of the layers that did not run the attention with their weights{when}"
    return [Check(what=what, error=share, allowed=0.0, passed=share == 0.0)]


def _check_layer(
    plugin: AttentionPlugin, weighted: OperationSpec | None, case: OperationSpec, call: WatchedCall
) -> list[Check]:
    """The checks of one layer's call; ``weighted`` is its own case, from which the oracle has its weights."""
    inputs = call.inputs()
    batch, heads, n, head_dim = inputs.q.shape
    backward = call.upstream is not None
    seen = {
        "batch": batch,
        "mode": "forward_backward" if backward else "forward",
        "dtype": str(inputs.q.dtype).removeprefix("torch."),
    }
    # Weights may depend on the longest sequence, so a weighted layer keeps the length that it was built for.
    sizes = {"heads": heads, "seq_len": n, "head_dim": head_dim} if weighted is None else {}
    spec = (weighted or case).model_copy(update=seen | sizes)
    arguments = dict(zip(GRADIENTS, (inputs.q, inputs.k, inputs.v), strict=True))
    gradients = tuple(call.gradients.get(name, x.new_zeros(x.shape)) for name, x in arguments.items())
    recorded = RecordedCall(inputs, call.output, gradients if backward else (), call.generator, call.repeat)
    rows = max(LEAST_ROWS, verify.ROWS // batch)
    return recorded_call.check(plugin, spec, recorded, rows, verify.STRUCTURED_FACTOR)
