"""The YOSO encoder on transformers' ``PreTrainedModel``; its attention is looked up by name."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.utils import can_return_tuple, logging

import yoso.transformers_attention  # noqa: F401  registers "yoso" and "yoso_e"
from yoso.models.checkpoint import what_another_attention_changes
from yoso.models.config import YosoConfig
from yoso.models.layers import YosoEmbeddings, YosoLayer
from yoso.torch_private import values_are_readable

logger = logging.get_logger(__name__)


class YosoPreTrainedModel(PreTrainedModel):
    """The base class of all YOSO models.

    ``attn_implementation`` may name any attention in transformers' registry: ``"yoso_e"`` or ``"yoso"`` (the default
    is set by ``config.use_expectation``), ``"eager"`` (dense YOSO-E in plain torch with its exact derivative, for
    double backward and ``torch.func``), or another library's attention. ``"sdpa"``, for example, is softmax attention
    here too.

    Raises:
        TypeError: the configuration is not a ``yoso.YosoConfig``.
        ValueError: see ``YosoConfig``.
    """

    config: YosoConfig
    config_class = YosoConfig
    base_model_prefix = "yoso"
    supports_gradient_checkpointing = True
    _no_split_modules = ["YosoEmbeddings", "YosoLayer"]  # noqa: RUF012  transformers reads plain class attributes
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # Checkpoints of older transformers versions contain these buffers; this model computes them.
    _keys_to_ignore_on_load_unexpected = [r"embeddings\.(position_ids|token_type_ids)"]  # noqa: RUF012

    def __init__(self, config: YosoConfig) -> None:
        if not isinstance(config, YosoConfig):
            raise TypeError(
                f"config: expected a yoso.YosoConfig, got {type(config).__module__}.{type(config).__name__}; "
                "yoso.YosoConfig.from_dict(config.to_dict()) converts another YOSO configuration"
            )
        config.check()
        super().__init__(config)

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint, and warn if its weights belong to an attention that computes another function."""
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded  # a tuple with output_loading_info=True
        default = "yoso_e" if model.config.use_expectation else "yoso"
        model._warn_of_another_attention(getattr(model.config, "saved_with_attention", None) or default)
        return loaded

    def set_attn_implementation(self, *args: Any, **kwargs: Any) -> None:
        """Change the attention, and warn if the new one computes another function."""
        before = self.config._attn_implementation
        super().set_attn_implementation(*args, **kwargs)
        self._warn_of_another_attention(before)

    def _warn_of_another_attention(self, trained_with: str) -> None:
        change = what_another_attention_changes(trained_with, self.config._attn_implementation)
        if change is not None:
            logger.warning(f"{type(self).__name__}: {change}")

    @classmethod
    def register_for_auto_class(cls, auto_class: Any = "AutoModel") -> None:
        """See ``YosoConfig.register_for_auto_class``: it adds all classes."""
        del auto_class
        YosoConfig.register_for_auto_class()

    def get_correct_attn_implementation(self, requested_attention: str | None, is_init_check: bool = False) -> str:
        """The attention to use: the requested one, or else the default of ``config.use_expectation``."""
        default = "yoso_e" if self.config.use_expectation else "yoso"
        return super().get_correct_attn_implementation(requested_attention or default, is_init_check)

    def _check_and_adjust_attn_implementation(self, attn_implementation: str | None, *args: Any, **kwargs: Any) -> str:
        # transformers would try to download a kernel for any name that contains "flash", even a registered one.
        name = attn_implementation or ""
        if name in AttentionInterface() and not name.startswith("flash_attention_"):
            return name
        return super()._check_and_adjust_attn_implementation(attn_implementation, *args, **kwargs)


class YosoEncoder(nn.Module):
    """The stack of layers."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(YosoLayer(config) for _ in range(config.num_hidden_layers))


class YosoModel(YosoPreTrainedModel):
    """The bare encoder."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.embeddings = YosoEmbeddings(config)
        self.encoder = YosoEncoder(config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the word embeddings."""
        self.embeddings.word_embeddings = value

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """Encode.

        Args:
            input_ids: int64 ``[B, N]``; N at most ``config.max_position_embeddings``.
            attention_mask: ``[B, N]`` of 0 (padding) and 1 (a real token), of any dtype; None: no padding. Padding
                does not change the output at real tokens; the output at padded tokens is unspecified.
            token_type_ids: int64 ``[B, N]``; None: all 0.
            position_ids: int64 ``[B, N]`` or ``[1, N]``, rows of the position table; None: 2, 3, ..., padding included.
            inputs_embeds: float ``[B, N, hidden]``, instead of ``input_ids``.
            output_attentions: also return the attention probabilities, ``[B, heads, N, N]`` per layer, in O(N^2)
                memory. For ``"yoso"`` they are the expectation of the sampled weights. None:
                ``config.output_attentions``.
            output_hidden_states: also return the embeddings and the output of every layer, ``[B, N, hidden]`` each.
                None: ``config.output_hidden_states``.

        Returns:
            ``BaseModelOutput``, or with ``return_dict=False`` the tuple of its fields that are not None.

        Raises:
            ValueError: both or neither of ``input_ids`` and ``inputs_embeds``, a wrong shape, too long a sequence, or
                ``output_attentions`` with an attention that does not return its weights.
            TypeError: a complex attention mask.
        """
        inputs_embeds = self._embed_words(input_ids, attention_mask, inputs_embeds)
        batch, length, _ = inputs_embeds.shape
        if position_ids is None and length > self.config.max_position_embeddings:
            raise ValueError(
                f"sequence length {length} exceeds max_position_embeddings ({self.config.max_position_embeddings}); "
                "truncate the input (a tokenizer does with truncation=True, max_length=...), or build the model with a "
                "larger max_position_embeddings"
            )
        _check_shape("token_type_ids", token_type_ids, batch, length)
        _check_shape("position_ids", position_ids, batch, length, broadcast=True)
        key_padding_mask = _as_key_padding_mask(attention_mask, batch, length, inputs_embeds.device)

        hidden = self.embeddings(inputs_embeds, token_type_ids, position_ids)
        mask: Any = key_padding_mask
        if self.config._attn_implementation != "eager":  # eager_attention_forward takes the padding mask itself
            # Positional, because the name of the second argument has changed within transformers 5.
            mask = create_bidirectional_mask(self.config, hidden, key_padding_mask)
        if output_attentions is None:
            output_attentions = self.config.output_attentions
        if output_hidden_states is None:
            output_hidden_states = self.config.output_hidden_states
        states = [hidden]
        attentions = []
        for layer in self.encoder.layer:
            hidden, weights = layer(hidden, mask, key_padding_mask, output_attentions)
            if output_hidden_states:
                states.append(hidden)
            if output_attentions:
                attentions.append(weights)
        return BaseModelOutput(
            last_hidden_state=hidden,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )

    def _embed_words(
        self, input_ids: Tensor | None, attention_mask: Tensor | None, inputs_embeds: Tensor | None
    ) -> Tensor:
        """The word embeddings ``[B, N, hidden]``, from ``input_ids`` or ``inputs_embeds``."""
        name, inputs = name_and_input(input_ids, inputs_embeds)
        if name == "input_ids":
            if inputs.dim() != 2:
                raise ValueError(f"input_ids: expected [batch, length], got {list(inputs.shape)}")
            if values_are_readable(inputs):
                self.warn_if_padding_and_no_attention_mask(inputs, attention_mask)
            return self.embeddings.word_embeddings(inputs)
        if inputs.dim() != 3 or inputs.shape[-1] != self.config.hidden_size:
            raise ValueError(
                f"inputs_embeds: expected [batch, length, {self.config.hidden_size}], got {list(inputs.shape)}"
            )
        return inputs


def name_and_input(input_ids: Tensor | None, inputs_embeds: Tensor | None) -> tuple[str, Tensor]:
    """The name and the value of the argument that was passed.

    Raises:
        ValueError: both or neither were passed.
    """
    if input_ids is not None and inputs_embeds is None:
        return "input_ids", input_ids
    if inputs_embeds is not None and input_ids is None:
        return "inputs_embeds", inputs_embeds
    got = "neither" if input_ids is None else "both"
    raise ValueError(f"expected exactly one of input_ids and inputs_embeds, got {got}; pass one of them")


def _check_shape(name: str, ids: Tensor | None, batch: int, length: int, *, broadcast: bool = False) -> None:
    allowed = [(batch, length), (1, length)] if broadcast else [(batch, length)]
    if ids is not None and tuple(ids.shape) not in allowed:
        raise ValueError(f"{name}: expected [{batch}, {length}] like the input, got {list(ids.shape)}")


def _as_key_padding_mask(attention_mask: Tensor | None, batch: int, length: int, device: torch.device) -> Tensor | None:
    """The mask as bool ``[B, N]``, True for a real token."""
    if attention_mask is None:
        return None
    if attention_mask.is_complex():
        raise TypeError(f"attention_mask: expected bool, an integer or a float dtype, got {attention_mask.dtype}")
    if tuple(attention_mask.shape) != (batch, length):
        raise ValueError(
            f"attention_mask: expected [{batch}, {length}] (1: real token, 0: padding) like the input, got "
            f"{list(attention_mask.shape)}; a mask of pairs [B, 1, N, N] is not supported"
        )
    # An additive mask (0: keep, -inf: drop) means the opposite and would otherwise be accepted.
    may_be_additive = attention_mask.is_floating_point() and values_are_readable(attention_mask)
    if may_be_additive and not bool(((attention_mask == 0) | (attention_mask == 1)).all()):
        raise ValueError(
            "attention_mask: expected only 0 (padding) and 1 (real token), got values from "
            f"{attention_mask.min().item():g} to {attention_mask.max().item():g}; an additive mask is not supported"
        )
    return attention_mask.to(device=device, dtype=torch.bool)
