"""The model that YOSO's authors train on Long Range Arena: pre-norm layers, then the mean over the tokens.

Sizes and structure are those of github.com/mlpen/Nystromformer, ``LRA/code`` (``model.py``, ``model_wrapper.py``),
which has authors in common with YOSO. The mean there is over the padded length; here it is over the tokens that are not
padding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from yoso.models.config import YosoConfig
from yoso.models.encoder import YosoPreTrainedModel
from yoso.models.layers import YosoSelfAttention


class PreNormLayer(nn.Module):
    """Attention, then feed-forward. Each takes the layer norm of its input and adds its result to that input."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.attention_norm = nn.LayerNorm(width)
        self.self = YosoSelfAttention(config)
        self.output = nn.Linear(width, width)
        self.feed_forward_norm = nn.LayerNorm(width)
        self.intermediate = nn.Linear(width, config.intermediate_size)
        self.feed_forward = nn.Linear(config.intermediate_size, width)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, attention_mask: Tensor | None, key_padding_mask: Tensor | None) -> Tensor:
        """``[B, N, hidden]`` in and out; the masks are those of ``YosoSelfAttention``."""
        context, _ = self.self(self.attention_norm(hidden), attention_mask, key_padding_mask, False)
        hidden = hidden + self.dropout(self.output(context))
        inner = self.dropout(F.gelu(self.intermediate(self.feed_forward_norm(hidden))))
        return hidden + self.dropout(self.feed_forward(inner))


class LraForSequenceClassification(YosoPreTrainedModel):
    """Classifies sequences, or pairs of sequences, by the mean of the last layer's tokens.

    ``config.shared_layers`` (default False) runs one layer ``num_hidden_layers`` times, as in the YOSO paper's
    measurement of efficiency. ``config.sequences`` (default 1) is 2 for pairs.
    """

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.sequences = getattr(config, "sequences", 1)
        shared = getattr(config, "shared_layers", False)
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.layers = nn.ModuleList(PreNormLayer(config) for _ in range(1 if shared else config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        width = config.hidden_size * (4 if self.sequences == 2 else 1)
        self.dense = nn.Linear(width, config.intermediate_size)
        self.classifier = nn.Linear(config.intermediate_size, config.num_labels or 1)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(
            module, nn.Embedding
        ):  # the other layers keep torch's default initial weights, as the authors' do
            module.weight.normal_(std=0.02)

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings."""
        return self.word_embeddings

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classify.

        Args:
            input_ids: int64 ``[B, N]``, or ``[B, 2, N]`` for pairs.
            attention_mask: of the same shape, 1 for a real token and 0 for padding; None if nothing is padded.
            labels: int64 ``[B]``.

        Returns:
            ``logits`` ``[B, num_labels]`` and, with labels, ``loss``.

        Raises:
            ValueError: the sequence is longer than ``config.max_position_embeddings``.
        """
        length = input_ids.shape[-1]
        if length > self.config.max_position_embeddings:
            raise ValueError(
                f"input_ids: sequence length {length} exceeds max_position_embeddings "
                f"({self.config.max_position_embeddings}); shorten the sequences or build a longer model"
            )
        mask = None if attention_mask is None else attention_mask.view(-1, length).bool()
        pooled = self._pooled(input_ids.view(-1, length), mask)
        if self.sequences == 2:
            first, second = pooled.view(-1, 2, pooled.shape[-1]).unbind(1)
            pooled = torch.cat([first, second, first * second, first - second], dim=-1)
        logits = self.classifier(F.relu(self.dense(pooled)))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)

    def _pooled(self, input_ids: Tensor, key_padding_mask: Tensor | None) -> Tensor:
        """The mean over the real tokens, ``[B, hidden]``, of ids ``[B, N]``."""
        positions = self.position_embeddings.weight[: input_ids.shape[1]]
        hidden = self.dropout(self.word_embeddings(input_ids) + positions)
        mask = create_bidirectional_mask(self.config, hidden, key_padding_mask)
        for index in range(self.config.num_hidden_layers):
            hidden = self.layers[index % len(self.layers)](hidden, mask, key_padding_mask)
        hidden = self.norm(hidden)
        if key_padding_mask is None:
            return hidden.mean(1)
        real = key_padding_mask.unsqueeze(-1).to(hidden.dtype)
        return (hidden * real).sum(1) / real.sum(1).clamp(min=1)
