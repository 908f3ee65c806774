"""Verification of a whole model: finite results, the attention of every layer, and softmax against eager softmax."""

import torch
from torch import Tensor

from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import head_dim
from harness.core.plugin import AttentionPlugin
from harness.core.record import Check
from harness.core.spec import ModelSpec
from harness.measure import verify_layers
from harness.measure.sampled_rows import relative_error
from harness.models import model_case, transformers_seam

ALLOWED = 1e-5
"""Relative error in float32: about 100 machine epsilons for the rounding of a stack of layers."""

ROWS = 8
"""Queries, evenly spaced from the first to the last, that decide whether an attention is softmax attention."""


def check(plugin: AttentionPlugin, spec: ModelSpec, built: model_case.ModelCase) -> list[Check]:
    """The checks of a model case. They make the model's first call, whose attentions have their initial weights."""
    results: list[Tensor] = []
    case = transformers_seam.layer_case(spec)
    layers = verify_layers.check(plugin, case, built.model, lambda: results.append(built.call()), built.attentions)
    share = 1.0 - results[0].isfinite().float().mean().item()
    what = "share of numbers that are not finite in the result"
    checks = [Check(what=what, error=share, allowed=0.0, passed=share == 0.0), *layers]
    return checks if share or built.attentions else checks + _against_eager(plugin, spec, built)


def unverified(spec: ModelSpec, built: model_case.ModelCase) -> list[str]:
    """What of a model case no check covers, and why."""
    if spec.family in model_case.FIXED_ATTENTION:
        return [f"the attention inside: a model of family {spec.family} contains its own and does not look one up"]
    if built.attentions and built.optimizer is not None:
        return ["the layers of the last timed step: its weights are trained, and the oracle knows the initial ones"]
    return []


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
