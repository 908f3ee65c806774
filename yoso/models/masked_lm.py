"""Masked language modelling on the YOSO encoder."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import MaskedLMOutput
from transformers.utils import can_return_tuple

from yoso.models.config import YosoConfig
from yoso.models.encoder import YosoModel, YosoPreTrainedModel


class YosoTransform(nn.Module):
    """The layer between the encoder and the decoder."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden: Tensor) -> Tensor:
        """``[B, N, hidden]`` to ``[B, N, hidden]``."""
        return self.LayerNorm(self.activation(self.dense(hidden)))


class YosoPredictions(nn.Module):
    """Scores over the vocabulary. ``bias`` is the decoder's bias under a second name, as in checkpoints."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.transform = YosoTransform(config)
        self.decoder = nn.Linear(config.hidden_size, config.vocab_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, hidden: Tensor) -> Tensor:
        """``[B, N, hidden]`` to ``[B, N, vocabulary]``."""
        return self.decoder(self.transform(hidden))


class YosoMaskedLMHead(nn.Module):
    """Holds ``predictions``, so that the parameter names are those of checkpoints."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.predictions = YosoPredictions(config)


class YosoForMaskedLM(YosoPreTrainedModel):
    """Predicts masked tokens."""

    _tied_weights_keys = {  # noqa: RUF012  transformers reads a plain class attribute
        "cls.predictions.decoder.bias": "cls.predictions.bias",
        "cls.predictions.decoder.weight": "yoso.embeddings.word_embeddings.weight",
    }

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.yoso = YosoModel(config)
        self.cls = YosoMaskedLMHead(config)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, YosoPredictions):
            init.zeros_(module.bias)

    def get_output_embeddings(self) -> nn.Linear:
        """The decoder, whose weight is the vocabulary's matrix."""
        return self.cls.predictions.decoder

    def set_output_embeddings(self, new_embeddings: nn.Linear) -> None:
        """Replace the decoder and its bias."""
        self.cls.predictions.decoder = new_embeddings
        self.cls.predictions.bias = new_embeddings.bias

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> MaskedLMOutput:
        """Predict; arguments and errors are those of ``YosoModel``.

        Args:
            input_ids: see ``YosoModel``.
            attention_mask: see ``YosoModel``.
            token_type_ids: see ``YosoModel``.
            position_ids: see ``YosoModel``.
            inputs_embeds: see ``YosoModel``.
            labels: int64 ``[B, N]``, token ids; -100 does not count in the loss.
            output_attentions: see ``YosoModel``.
            output_hidden_states: see ``YosoModel``.

        Returns:
            ``logits`` ``[B, N, vocabulary]`` and, with labels, ``loss``, the mean cross entropy.
        """
        outputs = self.yoso(
            input_ids,
            attention_mask,
            token_type_ids,
            position_ids,
            inputs_embeds,
            output_attentions,
            output_hidden_states,
            return_dict=True,
        )
        logits = self.cls.predictions(outputs.last_hidden_state)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return MaskedLMOutput(
            loss=loss, logits=logits, hidden_states=outputs.hidden_states, attentions=outputs.attentions
        )
