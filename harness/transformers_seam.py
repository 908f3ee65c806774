"""Every attention of the harness under its name in transformers' registry, so that any encoder can run it.

A plugin's knobs are read from the model's configuration where it has attributes of those names. ``"yoso"`` and
``"yoso_e"`` register themselves (``yoso.transformers_attention``), and ``"sdpa"`` is transformers' own; names that are
taken stay as they are.
"""

from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

import yoso.transformers_attention as yoso_attention
from harness import registry
from harness.spec import OperationSpec

# The last module that each layer built, with what it was built for: planning may cost more than the attention.
_built: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], nn.Module]] = WeakKeyDictionary()


def register() -> None:
    """Make every attention of ``harness.registry`` known to transformers; no plugin is imported before it runs."""
    taken = AttentionInterface()
    for name in registry.names():
        if name not in taken:
            AttentionInterface.register(name, partial(_attend, name))
            AttentionMaskInterface.register(name, yoso_attention.key_padding_mask)


def attach(model: PreTrainedModel, name: str) -> None:
    """Run the attention ``name`` in a model that is built already.

    It does what ``attn_implementation=name`` does, also for a name with "flash" in it: in that argument transformers
    takes such a name for a kernel to download.

    Args:
        model: a model that looks its attention up in ``AttentionInterface``.
        name: a registered attention.

    Raises:
        RegistryError: it is unknown; the message lists what exists.
    """
    registry.get(name)
    register()
    model.config._attn_implementation = name


def _attend(
    name: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The plugin ``name`` under transformers' signature: ``[B, H, N, D]`` in, ``[B, N, H, D]`` out, no weights."""
    yoso_attention.check_self_attention(name, module, query, key, value, attention_mask, kwargs)
    if dropout:
        raise ValueError(
            f"attention {name!r} has no dropout of its weights, got dropout {dropout}; set the configuration's "
            "attention_probs_dropout_prob (or what this model calls it) to 0"
        )
    own_scale = query.shape[-1] ** -0.5
    if scaling is not None and abs(scaling - own_scale) > 1e-6 * own_scale:
        raise ValueError(f"attention {name!r} scales by 1/sqrt(head_dim) = {own_scale:g}, got scaling {scaling:g}")
    backward = query.requires_grad
    wanted = (name, query.shape, query.dtype, query.device, backward, attention_mask is not None)
    cached = _built.get(module)
    if cached is None or cached[0] != wanted:
        cached = (wanted, _build(name, getattr(module, "config", None), query, attention_mask, backward))
        _built[module] = cached
    return cached[1](query, key, value, attention_mask).transpose(1, 2).contiguous(), None


def _build(name: str, config: Any, query: Tensor, attention_mask: Tensor | None, backward: bool) -> nn.Module:
    plugin = registry.get(name)
    batch, heads, length, head_dim = query.shape
    padding = 0.0 if attention_mask is None else 1.0 - attention_mask.float().mean().item()
    spec = OperationSpec.model_validate(
        {
            "attention": name,
            "seq_len": length,
            "batch": batch,
            "heads": heads,
            "head_dim": head_dim,
            "device": str(query.device),
            "dtype": str(query.dtype).removeprefix("torch."),
            "mode": "forward_backward" if backward else "forward",
            "padding": padding,
        }
    )
    given = {knob: getattr(config, knob) for knob in plugin.default_knobs(spec) if hasattr(config, knob)}
    spec = spec.model_copy(update={"knobs": given})
    reasons = plugin.unsupported(spec)
    if reasons:
        raise ValueError(f"attention {name!r} cannot run here: {'; '.join(reasons)}")
    built = plugin.build(spec)
    if next(built.parameters(), None) is not None:
        raise ValueError(
            f"attention {name!r} has weights of its own, which a model would neither train nor save; only attentions "
            "without weights run through transformers' registry"
        )
    return built
