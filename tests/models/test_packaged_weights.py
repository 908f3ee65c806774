"""Trained weights from packages: found without an import, verified before they are parsed, and as trained."""

import hashlib
import importlib.metadata
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

from harness.models import packaged_text, packaged_weights
from harness.models.packaged_weights import (
    MINILM,
    MODELS,
    RXNMAPPER,
    LoadedModel,
    PackagedFile,
    PackagedModel,
    PackageMissing,
    WrongDigest,
)


@cache
def loaded(packaged: PackagedModel) -> LoadedModel:
    reason = packaged_weights.missing(packaged)
    if reason:
        pytest.skip(reason)
    return packaged_weights.load(packaged)


def test_an_absent_package_is_a_reason_with_the_command_that_installs_it() -> None:
    absent = replace(RXNMAPPER, distribution="no-such-distribution")
    reason = packaged_weights.missing(absent)
    assert reason is not None
    assert "no-such-distribution" in reason
    assert "`pip install --no-deps no-such-distribution==0.4.3`" in reason
    with pytest.raises(PackageMissing, match="is not installed"):
        packaged_weights.load(absent)


def test_a_package_without_the_file_is_a_reason() -> None:
    absent = PackagedFile("rxnmapper/models/no_such_file", "0" * 64)
    other = replace(RXNMAPPER, distribution="pytest", config=absent)  # a package that is installed in any case
    reason = packaged_weights.missing(other)
    assert reason is not None
    assert f"pytest {pytest.__version__} has no file rxnmapper/models/no_such_file" in reason


@pytest.mark.parametrize("damaged", ["config", "vocabulary", "weights"])
def test_a_wrong_digest_is_an_error_before_anything_is_parsed(
    damaged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        version = "0.4.3"

        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    contents = {"config": b"{}", "vocabulary": b"[PAD]\n", "weights": b"not a model"}
    files = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        files[name] = PackagedFile(name, hashlib.sha256(content).hexdigest())
    (tmp_path / damaged).write_bytes(contents[damaged] + b" ")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Distribution())
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("parsed before the digest was compared"))
    with pytest.raises(WrongDigest, match=f"{damaged}: expected the file of rxnmapper 0.4.3 with SHA-256"):
        packaged_weights.load(replace(RXNMAPPER, **files))


@pytest.mark.parametrize("packaged", MODELS.values(), ids=MODELS)
def test_the_model_has_the_declared_shape_and_the_package_is_not_imported(packaged: PackagedModel) -> None:
    model = loaded(packaged)
    config = model.model.config
    assert (config.num_hidden_layers, config.num_attention_heads) == (packaged.layers, packaged.heads)
    assert config.hidden_size == packaged.heads * packaged.head_dim
    assert config.max_position_embeddings == packaged.longest
    assert not model.model.training
    assert packaged.weights.path.split("/")[0] not in sys.modules


def test_every_token_of_the_reactions_is_known() -> None:
    model = loaded(RXNMAPPER)
    for reaction in packaged_text.REACTIONS:
        ids = model.encode(reaction)
        assert model.unknown not in ids
        assert "".join(packaged_weights.SMILES_TOKEN.findall(reaction)) == reaction


@pytest.mark.parametrize("packaged", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("tokens", [3, 128, 300, 512])
def test_a_sequence_has_the_length_and_the_special_tokens(packaged: PackagedModel, tokens: int) -> None:
    model = loaded(packaged)
    ids, _ = model.sequence(tokens)
    assert ids.shape == (1, tokens)
    assert (ids[0, 0], ids[0, -1]) == (model.first, model.last)
    assert ids[0, 1:-1].unique().numel() > min(10, tokens - 3)
    assert torch.equal(ids, model.sequence(tokens)[0])


def test_a_sequence_longer_than_the_positions_is_an_error() -> None:
    with pytest.raises(ValueError, match="tokens must be 3 to 512, the positions of rxnmapper, got 513"):
        loaded(RXNMAPPER).sequence(513)


def test_rxnmapper_gives_equal_tokens_similar_states() -> None:
    model = loaded(RXNMAPPER)
    ids, _ = model.sequence(300)
    with torch.no_grad():
        hidden = model.model(input_ids=ids).last_hidden_state
    assert torch.isfinite(hidden).all()
    states = torch.nn.functional.normalize(hidden[0], dim=-1)
    same = (ids[0][:, None] == ids[0]) & ~torch.eye(300, dtype=torch.bool)
    cosines = states @ states.T
    assert cosines[same].mean() > cosines[~same].mean() + 0.2


def test_trained_minilm_puts_a_paraphrase_nearest() -> None:
    model = loaded(MINILM)

    def embed(text: str) -> torch.Tensor:
        ids = torch.tensor([[model.first, *model.encode(text), model.last]])
        with torch.no_grad():
            return torch.nn.functional.normalize(model.model(input_ids=ids).last_hidden_state.mean(1)[0], dim=0)

    asked, same, other = (embed(text) for text in ("How old are you?", "What is your age?", "The train is late."))
    assert asked @ same > 0.7
    assert asked @ same > asked @ other + 0.3
