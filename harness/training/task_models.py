"""The untrained model of a task: the head that the task needs on the encoder that the spec asks for."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, set_seed
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.utils import can_return_tuple

from harness.core.spec import TaskSpec
from harness.models import transformers_seam
from harness.models.lra_model import LraForSequenceClassification
from harness.tasks.task import Task, TaskHead
from yoso import (
    YosoConfig,
    YosoForMaskedLM,
    YosoForMultipleChoice,
    YosoForQuestionAnswering,
    YosoForSequenceClassification,
    YosoForTokenClassification,
    YosoModel,
)
from yoso.models.encoder import YosoPreTrainedModel


class YosoForSequencePairs(YosoPreTrainedModel):
    """Classifies pairs of sequences. Each is encoded separately and represented by its first token."""

    def __init__(self, config: YosoConfig) -> None:
        super().__init__(config)
        self.yoso = YosoModel(config)
        self.dense = nn.Linear(4 * config.hidden_size, config.hidden_size)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, labels: Tensor | None = None
    ) -> SequenceClassifierOutput:
        """Classify.

        Args:
            input_ids: int64 ``[B, 2, N]``.
            attention_mask: of the same shape, 1 for a real token and 0 for padding; None if nothing is padded.
            labels: int64 ``[B]``.

        Returns:
            ``logits`` ``[B, num_labels]`` and, with labels, ``loss``.
        """
        mask = None if attention_mask is None else attention_mask.flatten(0, 1)
        hidden = self.yoso(input_ids.flatten(0, 1), mask, return_dict=True).last_hidden_state[:, 0]
        first, second = hidden.view(-1, 2, hidden.shape[-1]).unbind(1)
        both = torch.cat([first, second, first * second, first - second], dim=-1)
        logits = self.classifier(F.relu(self.dense(both)))
        loss = None if labels is None else F.cross_entropy(logits, labels)
        return SequenceClassifierOutput(loss=loss, logits=logits)


_YOSO: dict[TaskHead, type[YosoPreTrainedModel]] = {
    "masked_lm": YosoForMaskedLM,
    "sequence_classification": YosoForSequenceClassification,
    "sequence_pair": YosoForSequencePairs,
    "multiple_choice": YosoForMultipleChoice,
    "token_classification": YosoForTokenClassification,
    "question_answering": YosoForQuestionAnswering,
}
_LRA: dict[TaskHead, type[YosoPreTrainedModel]] = {
    "sequence_classification": LraForSequenceClassification,
    "sequence_pair": LraForSequenceClassification,
}


def make_model(spec: TaskSpec, task: Task, seed: int) -> PreTrainedModel:
    """The untrained model. Its initial weights depend on the seed and the sizes, not on the attention.

    The weights of an attention that has its own come on top, from the same seed.

    Raises:
        ValueError: the family does not have the task's head, or the model or the attention rejects a setting.
    """
    heads = _LRA if spec.family == "lra" else _YOSO
    if task.head not in heads:
        raise ValueError(
            f"family {spec.family!r} has no head {task.head!r}, which task {task.name!r} needs; it has "
            f"{', '.join(heads)}; use family 'yoso'"
        )
    if spec.pretrain_steps and spec.family == "lra":
        raise ValueError(
            f"pretrain_steps: family 'lra' has no masked-LM head, got {spec.pretrain_steps} steps; use family 'yoso', "
            "or 0 steps"
        )
    case = transformers_seam.layer_case(spec.model_copy(update={"seed": seed}))
    extra: dict[str, Any] = {"sequences": 2} if task.head == "sequence_pair" else {}
    config = YosoConfig(
        vocab_size=task.vocab_size + bool(spec.pretrain_steps),  # one more for the mask
        hidden_size=spec.hidden_size,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        intermediate_size=spec.intermediate_size or 2 * spec.hidden_size,
        max_position_embeddings=_positions(spec),
        pad_token_id=task.pad_id,
        num_labels=task.num_labels,
        # Dropout shares its random generator with a sampling attention, so it differs between two attentions.
        hidden_dropout_prob=spec.dropout,
        attention_probs_dropout_prob=0.0,
        **extra,
        **transformers_seam.configured(case),
    )
    set_seed(seed)
    model = heads[task.head](config)
    transformers_seam.insert(model, case)
    return model


def _positions(spec: TaskSpec) -> int:
    # The authors round the number of positions up to a power of two.
    return 2 ** math.ceil(math.log2(spec.seq_len)) if spec.family == "lra" else spec.seq_len
