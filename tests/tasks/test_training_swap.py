"""Models trained with one attention and scored with another; and the authors' Long Range Arena model."""

from typing import Any

import pytest
import torch

from harness.core import registry
from harness.core.registry import RegistryError
from harness.core.spec import Swap, TaskSpec
from harness.models.lra_model import LraForSequenceClassification
from harness.tasks.listops import ListOps
from harness.training.task_models import make_model
from harness.training.train import train
from yoso import YosoConfig

SMALL: dict[str, Any] = {
    "seq_len": 32,
    "seeds": 2,
    "steps": 60,
    "batch": 32,
    "train_examples": 1000,
    "eval_examples": 300,
}


def test_a_swap_to_an_equal_attention_scores_the_same_and_swaps_do_not_change_the_training():
    swaps = (Swap(attention="softmax"), Swap(attention="none"), Swap(attention="yoso", knobs={"num_hash": 8}))
    settings = SMALL | {"steps": 150}
    result = train(TaskSpec(attention="sdpa", evaluate_with=swaps, **settings))
    itself, none, hashed = result.evaluated_with
    assert itself.scores == pytest.approx(result.scores, abs=1 / 300)
    assert max(none.scores) < min(result.scores) - 0.05
    assert hashed.attention == "yoso"
    assert hashed.knobs["num_hash"] == 8
    assert {len(swapped.scores) for swapped in result.evaluated_with} == {2}
    assert {len(swapped.eval_seconds) for swapped in result.evaluated_with} == {2}
    assert result.scores == train(TaskSpec(attention="sdpa", **settings)).scores, "evaluation changed the training"


def test_more_hashes_come_closer_to_the_expectation():
    """A trained YOSO-E must lose score with one hash, and hardly any with 512."""
    swaps = tuple(Swap(attention="yoso", knobs={"num_hash": m}) for m in (1, 512))
    result = train(TaskSpec(attention="yoso_e", evaluate_with=swaps, **(SMALL | {"steps": 150, "seeds": 1})))
    (few,), (many,) = (swapped.scores for swapped in result.evaluated_with)
    assert abs(many - result.scores[0]) < 0.03
    assert few < many - 0.03


def test_a_swap_that_cannot_run_has_a_reason(monkeypatch):
    plugin = registry.get("softmax")
    monkeypatch.setattr(type(plugin), "unsupported", lambda *_: ["no room"])
    spec = TaskSpec(attention="sdpa", evaluate_with=(Swap(attention="softmax"),), **(SMALL | {"steps": 1, "seeds": 1}))
    (swapped,) = train(spec).evaluated_with
    assert (swapped.scores, swapped.reason) == ([], "no room")


@pytest.mark.parametrize(
    ("swap", "error", "words"),
    [
        (Swap(attention="nothing"), RegistryError, "unknown attention 'nothing'"),
        (Swap(attention="yoso", knobs={"hashes": 3}), ValueError, r"no knob \['hashes'\]"),
    ],
)
def test_an_invalid_swap_is_rejected_before_training(swap, error, words, monkeypatch):
    monkeypatch.setattr("harness.training.trainer.Trainer.train", lambda *_, **__: pytest.fail("training started"))
    with pytest.raises(error, match=words):
        train(TaskSpec(attention="sdpa", evaluate_with=(swap,), **SMALL))


def lra(**changes: Any) -> LraForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_attention_heads": 2}
    return LraForSequenceClassification(
        YosoConfig(
            **sizes, num_hidden_layers=2, intermediate_size=32, max_position_embeddings=16, num_labels=3, **changes
        )
    ).eval()


def test_padding_changes_nothing_in_the_lra_model():
    model = lra()
    ids = torch.randint(2, 20, (3, 10))
    padded = torch.cat([ids, torch.ones(3, 6, dtype=torch.long)], dim=1)
    mask = torch.tensor([[1] * 10 + [0] * 6] * 3)
    torch.testing.assert_close(model(ids).logits, model(padded, mask).logits, rtol=0, atol=1e-5)
    assert not torch.allclose(model(padded).logits, model(padded, mask).logits, atol=1e-5)


def test_a_pair_is_classified_by_both_sequences_in_order():
    model = lra(sequences=2)
    ids = torch.randint(2, 20, (4, 2, 10))
    logits = model(ids, labels=torch.tensor([0, 1, 2, 0]))
    assert logits.logits.shape == (4, 3)
    assert logits.loss.isfinite()
    assert not torch.allclose(logits.logits, model(ids.flip(1)).logits, atol=1e-5)


def test_shared_layers_have_the_weights_of_one_layer():
    whole, shared = (sum(p.numel() for p in model.parameters()) for model in (lra(), lra(shared_layers=True)))
    layer = sum(p.numel() for p in lra().layers[0].parameters())
    assert whole - shared == layer
    ids = torch.randint(2, 20, (3, 10))
    once = lra(shared_layers=True)
    assert len(once.layers) == 1
    first = once(ids).logits
    once.config.num_hidden_layers = 1
    assert not torch.allclose(first, once(ids).logits, atol=1e-5), "the shared layer runs only once"


def test_the_lra_model_trains_with_its_schedule_from_the_same_weights_for_every_attention():
    spec = TaskSpec(attention="yoso_e", family="lra", schedule="one_cycle", warmup_steps=10, **(SMALL | {"seeds": 1}))
    first, other = (make_model(spec.model_copy(update={"attention": name}), ListOps(), 3) for name in ("yoso", "sdpa"))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))
    result = train(spec)
    assert len(result.scores) == 1
    assert result.scores[0] > 0.1


def test_a_head_that_the_family_lacks_is_an_error():
    class Tokens(ListOps):
        head = "token_classification"

    with pytest.raises(ValueError, match="family 'lra' has no head 'token_classification', which task 'listops' needs"):
        make_model(TaskSpec(attention="sdpa", family="lra", seq_len=32), Tokens(), 0)
