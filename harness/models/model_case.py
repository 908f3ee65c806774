"""The model of a model case, with the attention inside, its inputs, and the call to measure."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models import yoso as transformers_yoso

import yoso
from harness.core import registry
from harness.core.plugin import torch_dtype
from harness.core.spec import Head, ModelSpec
from harness.models import transformers_seam
from harness.models.lra_model import LraForSequenceClassification
from yoso.models.layers import POSITION_OFFSET

CHOICES = 2
LABELS = 2
MASKED_FRACTION = 0.15
FIRST_TOKEN = 3
"""Lower ids are special tokens in every family: padding, start and end."""
LEARNING_RATE = 1e-4

_CLASSES: dict[Head, str] = {
    "encoder": "Model",
    "masked_lm": "ForMaskedLM",
    "sequence_classification": "ForSequenceClassification",
    "multiple_choice": "ForMultipleChoice",
    "token_classification": "ForTokenClassification",
    "question_answering": "ForQuestionAnswering",
}


@dataclass(frozen=True)
class ModelCase:
    """A model, its inputs, and what one call of it does: inference or a training step.

    Args:
        model: the model.
        inputs: the inputs of ``call``.
        run: calls the model on given inputs.
        optimizer: of a training step; None for inference.
        attentions: the attention modules that have weights of their own, in the order of the layers.
    """

    model: PreTrainedModel
    inputs: Mapping[str, Tensor]
    run: Callable[[Mapping[str, Tensor]], Tensor]
    optimizer: torch.optim.AdamW | None = None
    attentions: Sequence[transformers_seam.LayerAttention] = ()

    def call(self) -> Tensor:
        """One call, always on the same inputs."""
        return self.run(self.inputs)

    @property
    def parameters(self) -> int:
        """Number of trainable parameters; shared ones count once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def held(self) -> list[Tensor]:
        """The tensors that exist before a call: weights and inputs."""
        return [*self.model.parameters(), *self.inputs.values()]


def build(spec: ModelSpec) -> ModelCase:
    """Build the model and its inputs. Both depend on ``spec.seed`` and the sizes alone, not on the attention.

    The weights of an attention that has its own come on top, in one module per layer.

    A forward call runs in evaluation mode without gradients and returns the output (the logits, or the last hidden
    states of the bare encoder). A training step runs forward, loss, backward and AdamW without dropout, and returns the
    loss; the loss of the bare encoder is the mean square of its output.

    Raises:
        RegistryError: the attention is unknown.
        ValueError: the family, the model or the attention rejects a setting.
    """
    registry.get(spec.attention)
    if spec.vocab_size <= FIRST_TOKEN:
        raise ValueError(
            f"vocab_size must be greater than {FIRST_TOKEN}, the number of special tokens, got {spec.vocab_size}; "
            "give a larger one"
        )
    case = transformers_seam.layer_case(spec)
    knobs = transformers_seam.configured(case)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.seed)
        model = _FAMILIES[spec.family](spec, knobs)
    model.to(spec.device, torch_dtype(spec.dtype))  # type: ignore[arg-type]  # mypy loses self behind its decorator
    attentions = [] if spec.family in FIXED_ATTENTION else transformers_seam.insert(model, case)
    inputs = random_inputs(spec, spec.seed)
    if spec.mode == "forward":
        return ModelCase(model.eval(), inputs, _forward(model), None, attentions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    return ModelCase(model.train(), inputs, _training_step(model, optimizer), optimizer, attentions)


def _forward(model: nn.Module) -> Callable[[Mapping[str, Tensor]], Tensor]:
    def call(inputs: Mapping[str, Tensor]) -> Tensor:
        with torch.inference_mode():
            return model(**inputs)[0]

    return call


def _training_step(model: nn.Module, optimizer: torch.optim.AdamW) -> Callable[[Mapping[str, Tensor]], Tensor]:
    def call(inputs: Mapping[str, Tensor]) -> Tensor:
        labelled = any(name in inputs for name in ("labels", "start_positions"))
        first = model(**inputs)[0]
        loss = first if labelled else first.square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    return call


def random_inputs(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    """Random token ids and, for a training step, labels, on the case's device. They depend on the seed and sizes."""
    return {name: tensor.to(spec.device) for name, tensor in _drawn(spec, seed).items()}


def _drawn(spec: ModelSpec, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    choices = [CHOICES] if spec.head == "multiple_choice" else []
    inputs = {"input_ids": draw(FIRST_TOKEN, spec.vocab_size, spec.batch, *choices, spec.seq_len)}
    if spec.mode == "forward":
        return inputs
    match spec.head:
        case "masked_lm":
            masked = torch.rand(spec.batch, spec.seq_len, generator=generator).argsort() < math.ceil(
                MASKED_FRACTION * spec.seq_len
            )
            inputs["labels"] = inputs["input_ids"].masked_fill(~masked, -100)
        case "sequence_classification":
            inputs["labels"] = draw(0, LABELS, spec.batch)
        case "multiple_choice":
            inputs["labels"] = draw(0, CHOICES, spec.batch)
        case "token_classification":
            inputs["labels"] = draw(0, LABELS, spec.batch, spec.seq_len)
        case "question_answering":
            inputs["start_positions"] = draw(0, spec.seq_len, spec.batch)
            inputs["end_positions"] = draw(0, spec.seq_len, spec.batch)
    return inputs


def _sizes(spec: ModelSpec) -> dict[str, Any]:
    return {
        "vocab_size": spec.vocab_size,
        "hidden_size": spec.hidden_size,
        "num_hidden_layers": spec.layers,
        "num_attention_heads": spec.heads,
        "intermediate_size": 4 * spec.hidden_size,
        "max_position_embeddings": spec.seq_len,
        "type_vocab_size": 1,
        "num_labels": LABELS,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    } | ({} if spec.conv_window is None else {"conv_window": spec.conv_window})


def _yoso(spec: ModelSpec, knobs: Mapping[str, Any]) -> PreTrainedModel:
    return getattr(yoso, f"Yoso{_CLASSES[spec.head]}")(yoso.YosoConfig(**_sizes(spec), **knobs))


def _bert(spec: ModelSpec, knobs: Mapping[str, Any]) -> PreTrainedModel:
    sizes = _sizes(spec)
    # As many positions as YOSO's table has, so that the embeddings of both families have the same size.
    sizes["max_position_embeddings"] += POSITION_OFFSET
    config = transformers.BertConfig(**sizes, **knobs)
    bare = {"add_pooling_layer": False} if spec.head == "encoder" else {}
    return getattr(transformers, f"Bert{_CLASSES[spec.head]}")(config, **bare)


def _transformers_yoso(spec: ModelSpec, knobs: Mapping[str, Any]) -> PreTrainedModel:
    if spec.attention != "yoso_e":
        raise ValueError(
            "family 'transformers_yoso' contains its own attention: expected attention 'yoso_e', got "
            f"{spec.attention!r}; use family 'yoso' or 'bert', which run any attention"
        )
    if knobs["normalization"] != "l2" or knobs["norm_floor"] != 0:
        raise ValueError(
            "family 'transformers_yoso' contains its own attention, which has normalization 'l2' without a floor: "
            f"expected these knobs, got normalization {knobs['normalization']!r} and norm_floor "
            f"{knobs['norm_floor']!r}; use family 'yoso' or 'bert' for others"
        )
    config = transformers_yoso.YosoConfig(**_sizes(spec), **knobs)
    return getattr(transformers_yoso, f"Yoso{_CLASSES[spec.head]}")(config)


def _lra(spec: ModelSpec, knobs: Mapping[str, Any]) -> PreTrainedModel:
    if spec.head != "sequence_classification":
        raise ValueError(
            f"family 'lra' has the head 'sequence_classification' only, got {spec.head!r}; use that head, or family "
            "'yoso'"
        )
    return LraForSequenceClassification(yoso.YosoConfig(**_sizes(spec), **knobs, shared_layers=True))


_FAMILIES = {"yoso": _yoso, "bert": _bert, "transformers_yoso": _transformers_yoso, "lra": _lra}
FIXED_ATTENTION = ("transformers_yoso",)
"""Families that contain their own attention instead of looking one up by name."""
