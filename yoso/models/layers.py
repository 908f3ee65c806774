"""The layers of the encoder, with the parameter names of transformers' checkpoints."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.pytorch_utils import apply_chunking_to_forward

from yoso.attention import dense_yoso_e
from yoso.models.config import YosoConfig
from yoso.models.convolution import convolve, make_convolution

POSITION_OFFSET = 2
"""The first position, independent of padding: the convention of RoBERTa's checkpoints."""


class YosoEmbeddings(nn.Module):
    """Word, token type and position embeddings, summed and normalised."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.word_embeddings: nn.Module = nn.Embedding(
            config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id
        )
        self.position_embeddings = nn.Embedding(config.max_position_embeddings + POSITION_OFFSET, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, inputs_embeds: Tensor, token_type_ids: Tensor | None, position_ids: Tensor | None) -> Tensor:
        """Embed.

        Args:
            inputs_embeds: ``[B, N, hidden]``, the word embeddings.
            token_type_ids: int64 ``[B, N]``; None: all 0.
            position_ids: int64 ``[B, N]`` or ``[1, N]``; None: 2, 3, ...

        Returns:
            ``[B, N, hidden]``.
        """
        length = inputs_embeds.shape[1]
        if token_type_ids is None:
            token_type_ids = torch.zeros(1, length, dtype=torch.long, device=inputs_embeds.device)
        if position_ids is None:
            position_ids = torch.arange(POSITION_OFFSET, POSITION_OFFSET + length, device=inputs_embeds.device)[None]
        hidden = inputs_embeds + self.token_type_embeddings(token_type_ids) + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(hidden))


def eager_attention_forward(
    module: "YosoSelfAttention",
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[Tensor, Tensor]:
    """Dense YOSO-E in plain torch in O(N^2) memory, with dropout: ``attn_implementation="eager"``.

    Returns:
        ``[B, N, H, D]`` and the weights ``[B, H, N, N]``.
    """
    config = module.config
    output, weights = dense_yoso_e(
        query,
        key,
        value,
        attention_mask,
        hash_code_len=config.hash_code_len,
        dropout=dropout,
        normalization=config.normalization,
        norm_floor=config.norm_floor,
    )
    return output.transpose(1, 2).contiguous(), weights


class YosoSelfAttention(nn.Module):
    """The projections, the attention named in ``config._attn_implementation``, and the convolution of the values."""

    is_causal = False

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.config = config
        self.head_dim = config.hidden_size // config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.conv: nn.Module | None = None
        if config.conv_window is not None:
            self.conv = make_convolution(config.num_attention_heads, config.conv_window)

    def forward(
        self, hidden: Tensor, attention_mask: Any, key_padding_mask: Tensor | None, output_attentions: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            hidden: ``[B, N, hidden]``.
            attention_mask: the mask in the form that the attention expects.
            key_padding_mask: bool ``[B, N]``, True for a real token, or None.
            output_attentions: also return the weights.

        Returns:
            ``[B, N, hidden]`` and, with ``output_attentions``, the weights ``[B, heads, N, N]``.

        Raises:
            ValueError: ``output_attentions`` with an attention that does not return its weights.
        """
        query, key, value = (
            projection(hidden).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        name = self.config._attn_implementation
        attend = eager_attention_forward if name == "eager" else ALL_ATTENTION_FUNCTIONS[name]
        context, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.config.attention_probs_dropout_prob if self.training else 0.0,
            scaling=self.head_dim**-0.5,
            output_attentions=output_attentions,
        )
        if output_attentions and weights is None:
            raise ValueError(
                f"output_attentions=True: attention {name!r} does not return its weights [B, heads, N, N]; "
                "use attn_implementation 'yoso_e', 'yoso' or 'eager'"
            )
        if self.conv is not None:
            context = context + convolve(self.conv, value, key_padding_mask).transpose(1, 2)
        return context.flatten(-2), weights if output_attentions else None


class YosoResidual(nn.Module):
    """Projection to the width of the model, dropout, sum with the layer's input, layer norm."""

    def __init__(self, config: YosoConfig, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, layer_input: Tensor) -> Tensor:
        """``[B, N, width]`` and ``[B, N, hidden]`` to ``[B, N, hidden]``."""
        return self.LayerNorm(self.dropout(self.dense(hidden)) + layer_input)


class YosoAttention(nn.Module):
    """The attention half of a layer."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.self = YosoSelfAttention(config)
        self.output = YosoResidual(config, config.hidden_size)

    def forward(
        self, hidden: Tensor, attention_mask: Any, key_padding_mask: Tensor | None, output_attentions: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and results are those of ``YosoSelfAttention``."""
        context, weights = self.self(hidden, attention_mask, key_padding_mask, output_attentions)
        return self.output(context, hidden), weights


class YosoIntermediate(nn.Module):
    """The first linear layer of the feed-forward part, with its activation."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self.activation = ACT2FN[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """``[B, N, hidden]`` to ``[B, N, intermediate]``."""
        return self.activation(self.dense(hidden))


class YosoLayer(GradientCheckpointingLayer):
    """One layer: attention, then feed-forward, each with its residual and layer norm (post-norm)."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.chunk_size_feed_forward = config.chunk_size_feed_forward
        self.attention = YosoAttention(config)
        self.intermediate = YosoIntermediate(config)
        self.output = YosoResidual(config, config.intermediate_size)

    def forward(
        self, hidden: Tensor, attention_mask: Any, key_padding_mask: Tensor | None, output_attentions: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Arguments and results are those of ``YosoSelfAttention``."""
        attended, weights = self.attention(hidden, attention_mask, key_padding_mask, output_attentions)
        return apply_chunking_to_forward(self._feed_forward, self.chunk_size_feed_forward, 1, attended), weights

    def _feed_forward(self, attended: Tensor) -> Tensor:
        return self.output(self.intermediate(attended), attended)
