"""A model gives the same output with every exact softmax attention, and an attention with weights its oracle's.

What an attention without weights computes is held to its oracle by the operation's cases. One with weights has others
in each layer of a model: they are verified where they are.
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
"""Relative, float32: about 100 machine epsilons for the rounding of a stack of layers."""

ROWS = 8
"""Queries, from the first to the last, at which an attention is seen to be softmax attention or not."""


def check(plugin: AttentionPlugin, spec: ModelSpec, built: model_case.ModelCase) -> list[Check]:
    """What a model case is verified by beside its operation's cases; empty where that is nothing."""
    return _own_weights(plugin, spec) if built.attentions else _against_eager(plugin, spec, built)


def _against_eager(plugin: AttentionPlugin, spec: ModelSpec, built: model_case.ModelCase) -> list[Check]:
    """The output of a float32 forward case against the same model with the eager softmax; empty for other cases."""
    comparable = spec.mode == "forward" and spec.dtype == "float32" and spec.attention != "softmax"
    if not comparable or not _is_softmax(plugin, spec):
        return []
    eager = model_case.build(spec.model_copy(update={"attention": "softmax", "knobs": {}}))
    error = relative_error(built.call(), eager.call())
    # A NaN is above any tolerance; the check of finite numbers, which comes first, names it.
    return [Check(what="output against eager softmax", error=error, allowed=ALLOWED, passed=error <= ALLOWED)]


def _is_softmax(plugin: AttentionPlugin, spec: ModelSpec) -> bool:
    """Whether the plugin's own oracle is softmax attention at this length: a window may cover a shorter one."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(1, 2, spec.seq_len, head_dim(spec), generator=generator, dtype=torch.float64) for _ in range(3)
    )
    rows = torch.linspace(0, spec.seq_len - 1, min(spec.seq_len, ROWS)).long()
    its_own = plugin.oracle(spec, q, k, v, None, rows)
    return bool(torch.allclose(its_own, softmax_attention(q, k, v, None, rows)))


def _own_weights(plugin: AttentionPlugin, spec: ModelSpec) -> list[Check]:
    """The first and the last layer's attention, on what reaches it in the model, against the oracle with its weights.

    The model is built once more, for a forward pass of one sequence: a training step has moved its weights, and the
    oracle has the initial ones. Outputs are compared, as ``verify`` does; gradients are the operation's cases'.
    """
    model = model_case.build(spec.model_copy(update={"batch": 1, "mode": "forward"}))
    reached: dict[nn.Module, tuple[Any, ...]] = {}

    def keep(module: nn.Module, given: tuple[Any, ...]) -> None:
        reached.setdefault(module, given)

    for module, _ in model.attentions:
        module.register_forward_pre_hook(keep)
    model.call()
    left_out = sum(module not in reached for module, _ in model.attentions) / len(model.attentions)
    what = "share of the layers that did not run the attention with their weights"
    checks = [Check(what=what, error=left_out, allowed=0.0, passed=left_out == 0)]
    for layer in sorted({0, len(model.attentions) - 1}):
        module, case = model.attentions[layer]
        if module in reached:
            *given, mask = reached[module]
            q, k, v = (x.clone() for x in given)  # tensors of inference mode are not to be used outside it
            inputs = Inputs(q, k, v, mask, torch.ones_like(q))
            found = verify.check(plugin, case.model_copy(update={"mode": "forward"}), module, inputs)
            checks += [one.model_copy(update={"what": f"layer {layer + 1}: {one.what}"}) for one in found]
    return checks
