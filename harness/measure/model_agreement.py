"""Verification of the attention inside a whole model: softmax against eager softmax, own weights against the oracle.

An attention without weights is compared with its oracle by the operation cases. An attention with weights has different
ones in each layer of a model, so it is verified inside the model.
"""

from typing import Any

import torch
from torch import nn

from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import head_dim
from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import ModelSpec
from harness.measure import verify
from harness.measure.inputs import Inputs
from harness.measure.sampled_rows import relative_error
from harness.models import model_case

ALLOWED = 1e-5
"""Relative error in float32: about 100 machine epsilons for the rounding of a stack of layers."""

ROWS = 8
"""Queries, evenly spaced from the first to the last, that decide whether an attention is softmax attention."""


def check(plugin: AttentionPlugin, spec: ModelSpec, built: model_case.ModelCase) -> list[Check]:
    """The checks of a model case beyond those of its operation's cases; empty if there are none."""
    return _own_weights(plugin, spec) if built.attentions else _against_eager(plugin, spec, built)


def _against_eager(plugin: AttentionPlugin, spec: ModelSpec, built: model_case.ModelCase) -> list[Check]:
    """The output of a float32 forward case against the same model with eager softmax; empty for other cases."""
    comparable = spec.mode == "forward" and spec.dtype == "float32" and spec.attention != "softmax"
    if not comparable or not _is_softmax(plugin, spec):
        return []
    eager = model_case.build(spec.model_copy(update={"attention": "softmax", "knobs": {}}))
    error = relative_error(built.call(), eager.call())
    # NaN fails the comparison; the check for finite numbers, which comes first, names the cause.
    return [Check(what="output against eager softmax", error=error, allowed=ALLOWED, passed=error <= ALLOWED)]


def _is_softmax(plugin: AttentionPlugin, spec: ModelSpec) -> bool:
    """Whether the plugin's oracle is softmax attention at this length, as a window that covers the sequence is."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, 2, spec.seq_len, head_dim(spec), generator=generator, dtype=torch.float64) for _ in range(3)
    )
    rows = torch.linspace(0, spec.seq_len - 1, min(spec.seq_len, ROWS)).long()
    return bool(torch.allclose(plugin.oracle(spec, q, k, v, None, rows), softmax_attention(q, k, v, None, rows)))


def _own_weights(plugin: AttentionPlugin, spec: ModelSpec) -> list[Check]:
    """The first and the last layer's attention, on their inputs in the model, against the oracle with their weights.

    The model is built once more for a forward pass of one sequence, because a training step has changed its weights and
    the oracle has the initial ones. Outputs are compared as in ``verify``; gradients belong to the operation cases.
    """
    model = model_case.build(spec.model_copy(update={"batch": 1, "mode": "forward"}))
    called_with: dict[nn.Module, tuple[Any, ...]] = {}

    def keep_arguments(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        called_with.setdefault(module, arguments)

    for layer in model.attentions:
        layer.module.register_forward_pre_hook(keep_arguments)
    model.call()
    unused = sum(layer.module not in called_with for layer in model.attentions) / len(model.attentions)
    what = "share of the layers that did not run the attention with their weights"
    checks = [Check(what=what, error=unused, allowed=0.0, passed=unused == 0)]
    for number in sorted({0, len(model.attentions) - 1}):
        layer = model.attentions[number]
        if layer.module in called_with:
            *qkv, mask = called_with[layer.module]
            q, k, v = (x.clone() for x in qkv)  # tensors of inference mode cannot be used outside it
            inputs = Inputs(q, k, v, mask, torch.ones_like(q))
            forward = layer.case.model_copy(update={"mode": "forward"})
            layer_checks = verify.check(plugin, forward, layer.module, inputs)
            checks += [
                result.model_copy(update={"what": f"layer {number + 1}: {result.what}"}) for result in layer_checks
            ]
    return checks
