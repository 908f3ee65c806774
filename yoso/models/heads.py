"""Task heads on the YOSO encoder: classification of sequences, choices and tokens, and question answering."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.activations import ACT2FN
from transformers.modeling_outputs import (
    MultipleChoiceModelOutput,
    QuestionAnsweringModelOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils import can_return_tuple

from yoso.models.config import YosoConfig
from yoso.models.encoder import YosoModel, YosoPreTrainedModel, name_and_input


class YosoClassificationHead(nn.Module):
    """Two linear layers on the first token."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.activation = ACT2FN[config.hidden_act]
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.out_proj = nn.Linear(config.hidden_size, _num_labels(config))

    def forward(self, hidden: Tensor) -> Tensor:
        """``[B, N, hidden]`` to ``[B, num_labels]``."""
        first = self.dropout(hidden[:, 0])
        return self.out_proj(self.dropout(self.activation(self.dense(first))))


class YosoForSequenceClassification(YosoPreTrainedModel):
    """One label, several labels or a number per sequence, according to ``config.problem_type``."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.num_labels = _num_labels(config)
        self.yoso = YosoModel(config)
        self.classifier = YosoClassificationHead(config)
        self.post_init()

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
    ) -> SequenceClassifierOutput:
        """Classify; the other arguments and the errors are those of ``YosoModel``.

        ``labels``: int64 ``[B]`` (cross entropy), float ``[B, num_labels]`` (binary cross entropy per label), or float
        ``[B]`` or ``[B, num_labels]`` (squared error). If ``config.problem_type`` is None, it is set from the first
        labels: ``num_labels`` 1 means regression, integers mean one label, floats mean several labels.

        Returns:
            ``logits`` ``[B, num_labels]`` and, with labels, ``loss``.
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
        logits = self.classifier(outputs.last_hidden_state)
        loss = None if labels is None else self._loss(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits, **_extras(outputs))

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        if self.config.problem_type is None:
            integer = labels.dtype in (torch.long, torch.int)
            if self.num_labels == 1:
                self.config.problem_type = "regression"
            else:
                self.config.problem_type = "single_label_classification" if integer else "multi_label_classification"
        if self.config.problem_type == "regression":
            return F.mse_loss(logits.flatten(), labels.flatten().to(logits.dtype))
        if self.config.problem_type == "single_label_classification":
            return F.cross_entropy(logits, labels.flatten())
        return F.binary_cross_entropy_with_logits(logits, labels)


class YosoForMultipleChoice(YosoPreTrainedModel):
    """Chooses one of several sequences."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.yoso = YosoModel(config)
        self.pre_classifier = nn.Linear(config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, 1)
        self.post_init()

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
    ) -> MultipleChoiceModelOutput:
        """Score the choices; arguments are those of ``YosoModel`` with one more dimension, ``[B, choices, N]``.

        ``labels``: int64 ``[B]``, the index of the correct choice.

        Returns:
            ``logits`` ``[B, choices]`` and, with labels, ``loss``. Hidden states and attentions have B * choices rows.

        Raises:
            ValueError: an input without the dimension of the choices, and as for ``YosoModel``.
        """
        name, inputs = name_and_input(input_ids, inputs_embeds)
        shape = "[batch, choices, length]" if name == "input_ids" else "[batch, choices, length, hidden]"
        if inputs.dim() != len(shape.split(",")):
            raise ValueError(
                f"{name}: expected {shape}, got {list(inputs.shape)}; stack the choices of an example in dimension 1"
            )
        choices = inputs.shape[1]
        flat = [
            None if ids is None else ids.flatten(0, 1)
            for ids in (input_ids, attention_mask, token_type_ids, position_ids, inputs_embeds)
        ]
        outputs = self.yoso(*flat, output_attentions, output_hidden_states, return_dict=True)
        first = F.relu(self.pre_classifier(outputs.last_hidden_state[:, 0]))
        logits = self.classifier(first).view(-1, choices)
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits, **_extras(outputs))


class YosoForTokenClassification(YosoPreTrainedModel):
    """One label per token."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.num_labels = _num_labels(config)
        self.yoso = YosoModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

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
    ) -> TokenClassifierOutput:
        """Label the tokens; the other arguments and the errors are those of ``YosoModel``.

        ``labels``: int64 ``[B, N]``; -100 and padded tokens do not count in the loss.

        Returns:
            ``logits`` ``[B, N, num_labels]`` and, with labels, ``loss``.
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
        logits = self.classifier(self.dropout(outputs.last_hidden_state))
        loss = None
        if labels is not None:
            if attention_mask is not None:
                labels = labels.masked_fill(attention_mask.to(labels.device) == 0, -100)
            loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten())
        return TokenClassifierOutput(loss=loss, logits=logits, **_extras(outputs))


class YosoForQuestionAnswering(YosoPreTrainedModel):
    """Finds the start and the end of an answer."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        config.num_labels = 2
        self.num_labels = 2
        self.yoso = YosoModel(config)
        self.qa_outputs = nn.Linear(config.hidden_size, self.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        start_positions: Tensor | None = None,
        end_positions: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> QuestionAnsweringModelOutput:
        """Score every token as start and end; the other arguments and the errors are those of ``YosoModel``.

        ``start_positions`` and ``end_positions``: int64 ``[B]`` or ``[B, 1]``; a position beyond N does not count in
        the loss.

        Returns:
            ``start_logits`` and ``end_logits`` ``[B, N]`` and, with both positions, ``loss``, the mean of the two cross
            entropies.
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
        start_logits, end_logits = (x.contiguous() for x in self.qa_outputs(outputs.last_hidden_state).unbind(-1))
        loss = None
        if start_positions is not None and end_positions is not None:
            beyond = start_logits.shape[1]
            start_loss, end_loss = (
                F.cross_entropy(logits, positions.flatten().clamp(0, beyond), ignore_index=beyond)
                for logits, positions in ((start_logits, start_positions), (end_logits, end_positions))
            )
            loss = (start_loss + end_loss) / 2
        return QuestionAnsweringModelOutput(
            loss=loss, start_logits=start_logits, end_logits=end_logits, **_extras(outputs)
        )


def _num_labels(config: YosoConfig) -> int:
    if not config.num_labels:
        raise ValueError(f"num_labels: expected at least 1, got {config.num_labels}; set num_labels or id2label")
    return config.num_labels


def _extras(outputs: Any) -> dict[str, Any]:
    return {"hidden_states": outputs.hidden_states, "attentions": outputs.attentions}
