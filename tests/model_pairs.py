"""YOSO models of this project and of transformers with the same weights, for the tests that compare them."""

import random
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models import yoso as transformers_yoso

import yoso

HEADS = (
    "Model",
    "ForMaskedLM",
    "ForSequenceClassification",
    "ForMultipleChoice",
    "ForTokenClassification",
    "ForQuestionAnswering",
)
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
SMALL: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
}


def random_sizes(seed: int) -> dict[str, Any]:
    """A small random configuration."""
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 3, 4])
    return {
        "vocab_size": draw.randint(20, 80),
        "hidden_size": heads * draw.choice([4, 7, 16, 33]),
        "num_hidden_layers": draw.randint(1, 3),
        "num_attention_heads": heads,
        "intermediate_size": draw.randint(8, 64),
        "hidden_act": draw.choice(["gelu", "relu", "gelu_new"]),
        "max_position_embeddings": 40,
        "type_vocab_size": draw.choice([1, 3]),
        "hash_code_len": draw.randint(1, 16),
        "conv_window": draw.choice([None, 1, 3, 7]),
        "num_labels": draw.randint(2, 5),
        "chunk_size_feed_forward": draw.choice([0, 1]),
        **NO_DROPOUT,
    }


def randomise(model: nn.Module, seed: int) -> None:
    """Set random weights far larger than initial ones, so that the attention has a large effect on the output."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator) * 0.3
        parameter.data.copy_(1 + noise if name.endswith("LayerNorm.weight") else noise)


def make_yoso(head: str = "Model", *, seed: int = 0, **sizes: Any) -> Any:
    """This project's model with random weights, in evaluation mode."""
    model = getattr(yoso, f"Yoso{head}")(yoso.YosoConfig(**sizes)).eval()
    randomise(model, seed)
    return model


def make_pair(head: str = "Model", *, seed: int = 0, **sizes: Any) -> tuple[Any, Any]:
    """This project's model and that of transformers, with the same random weights."""
    yoso_model = make_yoso(head, seed=seed, **sizes)
    transformers_model = getattr(transformers_yoso, f"Yoso{head}")(transformers_yoso.YosoConfig(**sizes)).eval()
    transformers_model.load_state_dict(yoso_model.state_dict())
    return yoso_model, transformers_model


def tokens(batch: int, length: int, *, vocab_size: int, seed: int = 0, choices: int | None = None) -> Tensor:
    """Random ids without special tokens: ``[batch, length]``, or ``[batch, choices, length]``."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, length) if choices is None else (batch, choices, length)
    return torch.randint(3, vocab_size, shape, generator=generator)


def largest_difference(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference of any two elements."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()
