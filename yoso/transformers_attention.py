"""YOSO in transformers' attention registry: importing this module registers ``"yoso"`` and ``"yoso_e"``.

Any bidirectional transformers model that looks up its attention in ``AttentionInterface`` then accepts
``attn_implementation="yoso"``. The parameters ``num_hash``, ``hash_code_len``, ``hash_family``, ``lsh_backward``, those
of the normalisation (``normalization``, ``norm_floor``) and those of the estimator (``estimator``, ``shared_keys``,
``rescore_floor``, ``rescore_rest``) are read from the model's configuration where it has them, so
``BertConfig(num_hash=32)`` works.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface
from transformers.utils import logging

from yoso.attention import expectation_weights, yoso_e, yoso_sampling
from yoso.torch_private import values_are_readable

logger = logging.get_logger(__name__)

# Features beyond plain self-attention that a layer can request, by the keyword argument that transformers passes.
_EXTRA_FEATURES = ("softcap", "position_bias", "s_aux")


def key_padding_mask(*, attention_mask: Tensor | None = None, **_: Any) -> Tensor | None:
    """The mask function of YOSO, which passes transformers' padding mask on unchanged.

    Args:
        attention_mask: bool ``[B, N]``, True for a real token, or None.

    Returns:
        The mask, or None where every token is real. A mask whose values cannot be read is passed on.
    """
    if attention_mask is not None and values_are_readable(attention_mask) and bool(attention_mask.all()):
        return None
    return attention_mask


def check_self_attention(
    name: str,
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    extras: dict[str, Any],
) -> None:
    """Refuse calls for which a bidirectional self-attention with a padding mask would give silently wrong results.

    Args:
        name: name of the attention, for the message.
        module: the calling layer.
        query: ``[B, H, N, D]``; ``key`` and ``value`` must have the same shape.
        key: see ``query``.
        value: see ``query``.
        attention_mask: bool ``[B, N]`` or None.
        extras: the other keyword arguments that the layer passed.

    Raises:
        ValueError: causal attention, a cache, cross attention, grouped heads, a sliding window, a bias or a mask that
            is not a padding mask.
    """
    layer = type(module).__name__
    causal = extras.get("is_causal")
    if causal if causal is not None else getattr(module, "is_causal", False):
        raise ValueError(f"attention {name!r} is bidirectional, but {layer} is causal; use it in an encoder")
    if not query.shape == key.shape == value.shape:
        raise ValueError(
            f"attention {name!r}: expected query, key and value of one shape [B, H, N, D], got {list(query.shape)}, "
            f"{list(key.shape)} and {list(value.shape)} from {layer}; it has no cross attention, cache or grouped "
            "heads"
        )
    window = extras.get("sliding_window")
    if window is not None and window < query.shape[2]:  # a wider window hides no token
        raise ValueError(
            f"attention {name!r} has no sliding_window, but {layer} asks for one of {window} over {query.shape[2]} "
            "tokens; give every layer full attention (layer_types=['full_attention', ...] in the model's "
            "configuration) or shorter sequences"
        )
    requested = [feature for feature in _EXTRA_FEATURES if extras.get(feature) is not None]
    if requested:
        raise ValueError(f"attention {name!r} has no {' and no '.join(requested)}, which {layer} asks for")
    if attention_mask is not None:
        batch, _, length, _ = query.shape
        if attention_mask.dtype != torch.bool or attention_mask.shape != (batch, length):
            raise ValueError(
                f"attention {name!r}: expected attention_mask None or bool [{batch}, {length}] (True: real token), got "
                f"{attention_mask.dtype} {list(attention_mask.shape)} from {layer}; pass a padding mask [B, N]"
            )


def yoso_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    output_attentions: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """Sampled YOSO with transformers' signature.

    Args:
        module: the calling layer; ``module.config`` may hold the parameters.
        query: ``[B, H, N, D]``, as are ``key`` and ``value``.
        key: see ``query``.
        value: see ``query``.
        attention_mask: bool ``[B, N]``, True for a real token, or None.
        dropout: has no effect, because YOSO forms no weights that could be dropped; a probability above 0 is reported
            once in the log.
        output_attentions: also return the collision probabilities, which are the expectation of the sampled weights.
        **kwargs: further arguments of the layer; ``scaling`` has no effect on normalised queries and keys.

    Returns:
        ``[B, N, H, D]`` and, with ``output_attentions``, the weights ``[B, H, N, N]``.

    Raises:
        ValueError: see ``check_self_attention``.
    """
    check_self_attention("yoso", module, query, key, value, attention_mask, kwargs)
    _warn_that_dropout_has_no_effect("yoso", dropout)
    config = getattr(module, "config", None)
    hash_code_len = getattr(config, "hash_code_len", 9)
    family = getattr(config, "resolved_hash_family", None) or getattr(config, "hash_family", None) or "hadamard"
    output = yoso_sampling(
        query,
        key,
        value,
        attention_mask,
        num_hash=getattr(config, "num_hash", 64),
        hash_code_len=hash_code_len,
        hash_family=family,
        lsh_backward=getattr(config, "lsh_backward", True),
        **_normalization(config),
        estimator=getattr(config, "estimator", "collisions"),
        shared_keys=min(getattr(config, "shared_keys", 64), key.shape[2]),
        rescore_floor=getattr(config, "rescore_floor", 0.2),
        rescore_rest=getattr(config, "rescore_rest", True),
    )
    weights = None
    if output_attentions:
        weights = expectation_weights(query, key, attention_mask, hash_code_len=hash_code_len)
    return output.transpose(1, 2).contiguous(), weights


def yoso_e_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    output_attentions: bool = False,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """YOSO-E with transformers' signature; arguments, results and errors are those of ``yoso_attention``."""
    check_self_attention("yoso_e", module, query, key, value, attention_mask, kwargs)
    _warn_that_dropout_has_no_effect("yoso_e", dropout)
    config = getattr(module, "config", None)
    hash_code_len = getattr(config, "hash_code_len", 9)
    output = yoso_e(query, key, value, attention_mask, hash_code_len=hash_code_len, **_normalization(config))
    weights = None
    if output_attentions:
        weights = expectation_weights(query, key, attention_mask, hash_code_len=hash_code_len)
    return output.transpose(1, 2).contiguous(), weights


def _normalization(config: Any) -> dict[str, Any]:
    return {name: getattr(config, name, default) for name, default in (("normalization", "l2"), ("norm_floor", 0.0))}


def _warn_that_dropout_has_no_effect(name: str, dropout: float) -> None:
    if dropout and not torch.compiler.is_compiling():
        logger.warning_once(
            f"attention {name!r} never forms its weights, so attention dropout ({dropout}) has no effect; use "
            "attn_implementation='eager' to apply it, or set attention_probs_dropout_prob=0"
        )


for _name, _function in (("yoso", yoso_attention), ("yoso_e", yoso_e_attention)):
    AttentionInterface.register(_name, _function)
    AttentionMaskInterface.register(_name, key_padding_mask)
