"""A model gives the same output with every exact softmax attention."""

import torch

from harness.measuring import models
from harness.measuring.sampled_rows import relative_error
from harness.plugin import AttentionPlugin
from harness.record import Check
from harness.softmax_oracle import softmax_attention
from harness.spec import ModelSpec
from harness.traits import head_dim

ALLOWED = 1e-5
"""Relative, float32: about 100 machine epsilons for the rounding of a stack of layers."""

ROWS = 8
"""Queries, from the first to the last, at which an attention is seen to be softmax attention or not."""


def check(plugin: AttentionPlugin, spec: ModelSpec, built: models.ModelCase) -> list[Check]:
    """The output of a float32 forward case against the same model with the eager softmax; empty for other cases."""
    comparable = spec.mode == "forward" and spec.dtype == "float32" and spec.attention != "softmax"
    if not comparable or not _is_softmax(plugin, spec):
        return []
    eager = models.build(spec.model_copy(update={"attention": "softmax", "knobs": {}}))
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
