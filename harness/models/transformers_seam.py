"""Registers every attention of the harness with transformers, so that any encoder can run it by name.

A plugin's knobs are read from the attributes of the same names in the model's configuration. ``"yoso"`` and
``"yoso_e"`` register themselves (``yoso.transformers_attention``), and ``"sdpa"`` is transformers' own: a name that is
already registered is not replaced. ``docs/transformers.md`` shows how to use it.

The harness's own models get their attention in two steps: ``configured`` before they are built, ``insert`` after.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

import yoso.transformers_attention as yoso_attention
from harness.core import registry
from harness.core.attention_shape import has_backward, head_dim
from harness.core.plugin import AttentionPlugin
from harness.core.spec import ModelSpec, OperationSpec, Scalar, TaskSpec
from yoso.torch_private import child_module, values_are_readable

# The last modules that each layer built, by what they were built for. Building may cost more than the attention itself,
# and a module that is used again in training after an evaluation is the one whose calls were verified.
_built: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], nn.Module]] = WeakKeyDictionary()
MODULES_PER_LAYER = 8
"""How many of them a layer keeps."""
# The names of the knobs that each plugin's modules were built with so far, in one order.
_knob_names: WeakKeyDictionary[AttentionPlugin, tuple[str, ...]] = WeakKeyDictionary()
# What ``attach`` returned for each model whose attention has weights of its own.
_attached: WeakKeyDictionary[nn.Module, "list[LayerAttention]"] = WeakKeyDictionary()


@dataclass(frozen=True)
class LayerAttention:
    """One layer's module of an attention with weights, and the case whose oracle has the same initial weights."""

    module: nn.Module
    case: OperationSpec


def register() -> None:
    """Register every attention of ``harness.core.registry`` with transformers. A plugin is imported when used."""
    registered = AttentionInterface()
    for name in registry.names():
        if name not in registered:
            AttentionInterface.register(name, partial(_attend, name))
            AttentionMaskInterface.register(name, yoso_attention.key_padding_mask)


def attach(
    model: PreTrainedModel,
    name: str,
    *,
    seq_len: int | None = None,
    seed: int = 0,
    knobs: Mapping[str, Scalar] | None = None,
) -> list[LayerAttention]:
    """Run the attention ``name`` in a model that is already built.

    This does what ``attn_implementation=name`` does, and also works for a name that contains "flash": in that argument
    transformers takes such a name for a kernel to download.

    An attention with weights of its own needs ``seq_len``. Every attention layer then gets a submodule named after the
    attention, so its weights are trained, moved and saved with the model
    (``encoder.layer.0.attention.self.linformer.key_projection``). Load saved weights after this call, because
    ``from_pretrained`` builds a model without these submodules.

    Args:
        model: a model that looks its attention up in ``AttentionInterface``.
        name: a registered attention.
        seq_len: only for an attention with weights: the longest sequence in tokens, including those the model adds.
        seed: only with ``seq_len``: seed of the initial weights, which differ from layer to layer.
        knobs: only with ``seq_len``: the attention's knobs; None takes those of the model's configuration.

    Returns:
        The attention of each layer, in the order of the layers; empty without ``seq_len``.

    Raises:
        RegistryError: the attention is unknown; the message lists the known ones.
        ValueError: ``seq_len`` for an attention without weights; sizes or knobs that the attention rejects; or a model
            without attention layers of transformers' interface.
    """
    registry.get(name)
    register()
    layers = [] if seq_len is None else _add_weights(model, name, seq_len, seed, knobs)
    model.config._attn_implementation = name
    return layers


def layer_case(spec: ModelSpec | TaskSpec) -> OperationSpec:
    """The operation case that each layer of a model case runs, for one sequence and with every knob set.

    Raises:
        RegistryError: the attention is unknown.
        ValueError: the attention does not have a given knob.
    """
    return OperationSpec(
        attention=spec.attention,
        seq_len=spec.seq_len,
        device=spec.device,
        dtype=spec.dtype,
        knobs=registry.get(spec.attention).knobs(spec),
        seed=spec.seed,
        heads=spec.heads,
        head_dim=head_dim(spec),
        mode="forward_backward" if has_backward(spec) else "forward",
    )


def own_weights(case: OperationSpec) -> dict[str, torch.Size]:
    """The shapes of the weights of one layer's attention, by name; empty for an attention without weights.

    Raises:
        ValueError: the attention cannot run the case.
    """
    module = _build(case)
    if next(module.parameters(), None) is None:
        return {}
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def configured(case: OperationSpec) -> Mapping[str, Scalar]:
    """The knobs that a model's configuration must hold for this attention.

    Empty for an attention with weights, because its modules are built with their knobs. In the configuration, a knob
    that has the name of one of the model's own settings, such as ``conv_window``, would change the model.
    """
    return {} if own_weights(case) else case.knobs


def insert(model: PreTrainedModel, case: OperationSpec) -> list[LayerAttention]:
    """Run the attention of ``case`` in a model whose configuration was made with ``configured(case)``.

    If the attention has weights, they start from ``case.seed``; the model's other weights do not change. Returns and
    raises the same as ``attach``.
    """
    if not own_weights(case):
        return attach(model, case.attention)
    return attach(model, case.attention, seq_len=case.seq_len, seed=case.seed, knobs=case.knobs)


def attached(model: PreTrainedModel) -> list[LayerAttention]:
    """The attention of each layer that has weights of its own; empty for any other model."""
    return _attached.get(model, [])


def _add_weights(
    model: PreTrainedModel, name: str, seq_len: int, seed: int, knobs: Mapping[str, Scalar] | None
) -> list[LayerAttention]:
    # Every layer that calls transformers' attention interface has is_causal, because the attention functions read it.
    layers = [module for module in model.modules() if hasattr(module, "is_causal")]
    if not layers:
        raise ValueError(
            f"model: {type(model).__name__} has no attention layer that looks its attention up by name; use a model "
            "that supports transformers' AttentionInterface"
        )
    generator = torch.Generator("cpu").manual_seed(seed)
    seeds = torch.randint(2**31, (len(layers),), generator=generator, device="cpu").tolist()
    added = []
    for layer, layer_seed in zip(layers, seeds, strict=True):
        config = getattr(layer, "config", model.config)
        case = _spec(
            name,
            config,
            seq_len=seq_len,
            batch=1,
            heads=config.num_attention_heads,
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads,
            device=str(model.device),
            dtype=str(model.dtype).removeprefix("torch."),
            mode="forward_backward",
            seed=layer_seed,
        )
        case = case if knobs is None else case.model_copy(update={"knobs": dict(knobs)})
        added.append(LayerAttention(_build(case), case))
    if next(added[0].module.parameters(), None) is None:
        raise ValueError(f"attention {name!r} has no weights of its own; leave seq_len={seq_len} out")
    for layer, attention in zip(layers, added, strict=True):
        # Transformers saves a weight that has two names only if this attribute declares it.
        attention.module._tied_weights_keys = _shared_parameters(attention.module)  # type: ignore[assignment]
        layer.add_module(name, attention.module)
    _attached[model] = added
    return added


def _shared_parameters(module: nn.Module) -> dict[str, str]:
    """For parameters with several names: each further name, mapped to the first one."""
    first: dict[nn.Parameter, str] = {}
    names = module.named_parameters(remove_duplicate=False)
    return {name: first[parameter] for name, parameter in names if first.setdefault(parameter, name) != name}


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
    """The plugin ``name`` with transformers' signature: ``[B, H, N, D]`` in, ``[B, N, H, D]`` out, no weights."""
    yoso_attention.check_self_attention(name, module, query, key, value, attention_mask, kwargs)
    if dropout:
        raise ValueError(
            f"attention {name!r} does not support attention dropout, got dropout {dropout}; set "
            "attention_probs_dropout_prob (or this model's name for it) to 0 in the model's configuration"
        )
    own_scale = query.shape[-1] ** -0.5
    if scaling is not None and abs(scaling - own_scale) > 1e-6 * own_scale:
        raise ValueError(
            f"attention {name!r} scales by 1/sqrt(head_dim) = {own_scale:g}, got scaling {scaling:g}; use a model with "
            "that scaling"
        )
    attend = child_module(module, name) or _without_weights(name, module, query, attention_mask)
    return attend(query, key, value, attention_mask).transpose(1, 2).contiguous(), None


def _without_weights(name: str, module: nn.Module, query: Tensor, attention_mask: Tensor | None) -> nn.Module:
    """The attention that the layer ``module`` runs, built at its first call of each kind."""
    plugin, config, backward = registry.get(name), getattr(module, "config", None), query.requires_grad

    def wanted() -> tuple[Any, ...]:
        """All that a module is built from. The text of a knob, because 1 and True are equal and a list has no hash."""
        knobs = [repr(getattr(config, knob, None)) for knob in _knob_names.get(plugin, ())]
        return (plugin, query.shape, query.dtype, query.device, backward, attention_mask is not None, *knobs)

    of_layer = _built.setdefault(module, {})
    found = of_layer.get(wanted())
    if found is None:
        batch, heads, length, head_dim = query.shape
        spec = _spec(
            name,
            config,
            seq_len=length,
            batch=batch,
            heads=heads,
            head_dim=head_dim,
            device=str(query.device),
            dtype=str(query.dtype).removeprefix("torch."),
            mode="forward_backward" if backward else "forward",
            padding=0.0 if attention_mask is None else _padded_fraction(attention_mask),
        )
        found = _build(spec)
        if next(found.parameters(), None) is not None:
            raise ValueError(
                f"attention {name!r} has weights of its own, and {type(module).__name__} does not have them; add them "
                f"with harness.models.transformers_seam.attach(model, {name!r}, seq_len=...)"
            )
        if len(of_layer) == MODULES_PER_LAYER:
            del of_layer[next(iter(of_layer))]
        # Before the module is stored, so that its key has all of its knobs.
        _knob_names[plugin] = tuple(sorted({*_knob_names.get(plugin, ()), *plugin.default_knobs(spec)}))
        of_layer[wanted()] = found
    return found


def _padded_fraction(mask: Tensor) -> float:
    """The fraction of padding, below 1 even where every token is padding, because a case has at least one real token.

    Half where the mask's values cannot be read.
    """
    if not values_are_readable(mask):
        return 0.5
    return min(1.0 - mask.float().mean().item(), 1.0 - 1.0 / mask.shape[1])


def _spec(name: str, config: PreTrainedConfig | None, **fields: Any) -> OperationSpec:
    """The operation case of a layer, with the knobs that the model's configuration sets."""
    spec = OperationSpec.model_validate({"attention": name} | fields)
    configured_knobs = {knob: getattr(config, knob, None) for knob in registry.get(name).default_knobs(spec)}
    # None in a configuration means the default.
    knobs = {knob: value for knob, value in configured_knobs.items() if value is not None}
    return spec.model_copy(update={"knobs": knobs})


def _build(spec: OperationSpec) -> nn.Module:
    plugin = registry.get(spec.attention)
    reasons = plugin.unsupported(spec)
    if reasons:
        raise ValueError(f"attention {spec.attention!r} cannot run here: {'; '.join(reasons)}")
    return plugin.build(spec)
