"""Every attention of the harness under its name in transformers' registry, so that any encoder can run it.

A plugin's knobs are read from the model's configuration where it has attributes of those names. ``"yoso"`` and
``"yoso_e"`` register themselves (``yoso.transformers_attention``), and ``"sdpa"`` is transformers' own; names that are
taken stay as they are. ``docs/transformers.md`` shows the ways in.

The harness's own models take their attention in two steps: ``configured`` before they are built, ``insert`` after.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

import yoso.transformers_attention as yoso_attention
from harness.core import registry
from harness.core.attention_shape import has_backward, head_dim
from harness.core.spec import ModelSpec, OperationSpec, Scalar, TaskSpec
from yoso.torch_private import child_module

# The last module that each layer built, with what it was built for: planning may cost more than the attention.
_built: WeakKeyDictionary[nn.Module, tuple[tuple[Any, ...], nn.Module]] = WeakKeyDictionary()


class Given(NamedTuple):
    """A layer's module of an attention with weights, and the case whose oracle has the same initial weights."""

    module: nn.Module
    case: OperationSpec


def register() -> None:
    """Make every attention of ``harness.core.registry`` known to transformers; no plugin is imported before it runs."""
    taken = AttentionInterface()
    for name in registry.names():
        if name not in taken:
            AttentionInterface.register(name, partial(_attend, name))
            AttentionMaskInterface.register(name, yoso_attention.key_padding_mask)


def attach(
    model: PreTrainedModel,
    name: str,
    *,
    seq_len: int | None = None,
    seed: int = 0,
    knobs: Mapping[str, Scalar] | None = None,
) -> list[Given]:
    """Run the attention ``name`` in a model that is built already.

    It does what ``attn_implementation=name`` does, also for a name with "flash" in it: in that argument transformers
    takes such a name for a kernel to download.

    With ``seq_len`` it is also the way in for an attention with weights of its own: every attention layer gets them as
    a submodule that is named after the attention, so they are trained, moved and saved with the model
    (``encoder.layer.0.attention.self.linformer.key_projection``). Saved ones are loaded after this call, into the model
    that has them: ``from_pretrained`` builds a model without.

    Args:
        model: a model that looks its attention up in ``AttentionInterface``.
        name: a registered attention.
        seq_len: only for an attention with weights: the longest sequence in tokens, also those that the model adds.
        seed: with ``seq_len``, of the initial weights, which differ from layer to layer.
        knobs: with ``seq_len``, what the attention is built with; None: what the model's configuration has.

    Returns:
        What the layers were given, in their order; nothing without ``seq_len``.

    Raises:
        RegistryError: it is unknown; the message lists what exists.
        ValueError: ``seq_len`` for an attention without weights; sizes or knobs that it refuses; a model without
            attention layers of transformers' interface.
    """
    registry.get(name)
    register()
    given = [] if seq_len is None else _give_weights(model, name, seq_len, seed, knobs)
    model.config._attn_implementation = name
    return given


def layer_case(spec: ModelSpec | TaskSpec) -> OperationSpec:
    """What each layer of a model case asks of the attention, for one sequence and with every knob.

    Raises:
        RegistryError: the attention is unknown.
        ValueError: a knob that it does not have.
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
    """The shapes of what one layer's attention saves, by name; empty for an attention without weights.

    Raises:
        ValueError: the attention cannot run the case.
    """
    module = _build(case)
    if next(module.parameters(), None) is None:
        return {}
    return {name: tensor.shape for name, tensor in module.state_dict().items()}


def configured(case: OperationSpec) -> Mapping[str, Scalar]:
    """The knobs that a model's configuration must hold for this attention.

    None for an attention with weights, whose modules have been built with theirs: a name that is also the model's own,
    as ``conv_window`` is, would change the model.
    """
    return {} if own_weights(case) else case.knobs


def insert(model: PreTrainedModel, case: OperationSpec) -> list[Given]:
    """Run the attention of ``case`` in a model whose configuration was made with ``configured(case)``.

    The initial weights of an attention that has some come from ``case.seed``; the model's other weights stay as they
    are. Returns and raises what ``attach`` does.
    """
    if not own_weights(case):
        return attach(model, case.attention)
    return attach(model, case.attention, seq_len=case.seq_len, seed=case.seed, knobs=case.knobs)


def _give_weights(
    model: PreTrainedModel, name: str, seq_len: int, seed: int, knobs: Mapping[str, Scalar] | None
) -> list[Given]:
    # Transformers' own attention functions read is_causal from the layer that calls them, so each of those has it.
    layers = [module for module in model.modules() if hasattr(module, "is_causal")]
    if not layers:
        raise ValueError(f"{type(model).__name__} has no attention layer that looks its attention up by name")
    generator = torch.Generator("cpu").manual_seed(seed)
    seeds = torch.randint(2**31, (len(layers),), generator=generator, device="cpu").tolist()
    given = []
    for layer, its_seed in zip(layers, seeds, strict=True):
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
            seed=its_seed,
        )
        case = case if knobs is None else case.model_copy(update={"knobs": dict(knobs)})
        given.append(Given(_build(case), case))
    if next(given[0].module.parameters(), None) is None:
        raise ValueError(f"attention {name!r} has no weights of its own; leave seq_len={seq_len} out")
    for layer, (module, _) in zip(layers, given, strict=True):
        # Without it transformers saves no weight that has two names.
        module._tied_weights_keys = _shared(module)  # type: ignore[assignment]
        layer.add_module(name, module)
    return given


def _shared(module: nn.Module) -> dict[str, str]:
    """The further names of parameters that have more than one, by the name before."""
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
    attend = child_module(module, name) or _without_weights(name, module, query, attention_mask)
    return attend(query, key, value, attention_mask).transpose(1, 2).contiguous(), None


def _without_weights(name: str, module: nn.Module, query: Tensor, attention_mask: Tensor | None) -> nn.Module:
    """What the layer ``module`` runs: built at its first call, and again where the call is another one."""
    backward = query.requires_grad
    wanted = (name, query.shape, query.dtype, query.device, backward, attention_mask is not None)
    cached = _built.get(module)
    if cached is None or cached[0] != wanted:
        batch, heads, length, head_dim = query.shape
        spec = _spec(
            name,
            getattr(module, "config", None),
            seq_len=length,
            batch=batch,
            heads=heads,
            head_dim=head_dim,
            device=str(query.device),
            dtype=str(query.dtype).removeprefix("torch."),
            mode="forward_backward" if backward else "forward",
            padding=0.0 if attention_mask is None else 1.0 - attention_mask.float().mean().item(),
        )
        cached = (wanted, _build(spec))
        if next(cached[1].parameters(), None) is not None:
            raise ValueError(
                f"attention {name!r} has weights of its own, and {type(module).__name__} has none of them; give them "
                f"to the model with harness.models.transformers_seam.attach(model, {name!r}, seq_len=...)"
            )
        _built[module] = cached
    return cached[1]


def _spec(name: str, config: PreTrainedConfig | None, **fields: Any) -> OperationSpec:
    """The case that a layer asks for, with the knobs that its configuration has."""
    spec = OperationSpec.model_validate({"attention": name} | fields)
    given = {knob: getattr(config, knob, None) for knob in registry.get(name).default_knobs(spec)}
    # None is a configuration's word for the default.
    return spec.model_copy(update={"knobs": {knob: value for knob, value in given.items() if value is not None}})


def _build(spec: OperationSpec) -> nn.Module:
    plugin = registry.get(spec.attention)
    reasons = plugin.unsupported(spec)
    if reasons:
        raise ValueError(f"attention {spec.attention!r} cannot run here: {'; '.join(reasons)}")
    return plugin.build(spec)
