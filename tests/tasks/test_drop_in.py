"""The study of pretrained models whose attention is swapped: on tiny random models, and on a packaged one."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AlbertConfig, AlbertModel, BertConfig, BertModel
from typer import Typer
from typer.testing import CliRunner, Result

from harness.core.spec import Swap
from harness.models import packaged_text, packaged_weights
from harness.models.packaged_weights import MINILM, RXNMAPPER, SMILES_TOKEN, LoadedModel, PackagedModel
from suites.studies.drop_in import __main__ as command
from suites.studies.drop_in import distillation, page, results, swapped_attention
from suites.studies.drop_in.atom_mapping import AGREEMENT, AtomMapping
from suites.studies.drop_in.passage_ranking import RANKS, TOP, PassageRanking
from suites.studies.drop_in.pretrained import Pretrained, hidden_states
from suites.studies.drop_in.results import Outcome, Settings, Source, Study

TINY = Settings(steps=2, batch=2, held_out=3, max_tokens=100)
WIDTHS = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 2, "intermediate_size": 16}
TOPICS = {
    f"topic {number}": " ".join(
        f"Then {' '.join(np.random.default_rng([number, n]).choice(list('abcdefgh'), 12))}." for n in range(9)
    )
    for number in range(8)
}


def loaded(packaged: PackagedModel, model: torch.nn.Module, pattern: re.Pattern[str], text: str) -> LoadedModel:
    """A random model with a vocabulary of the text's tokens behind four special ones."""
    ids = {token: 4 + number for number, token in enumerate(sorted(set(pattern.findall(text))))}
    return LoadedModel(packaged, model.eval(), lambda words: [ids.get(x, 3) for x in pattern.findall(words)], 1, 2, 3)


def mapping(settings: Settings = TINY) -> AtomMapping:
    torch.manual_seed(0)
    model = AlbertModel(AlbertConfig(vocab_size=80, embedding_size=8, initializer_range=0.5, **WIDTHS))
    read = loaded(RXNMAPPER, model, SMILES_TOKEN, "".join(packaged_text.REACTIONS))
    return AtomMapping(read, packaged_text.REACTIONS, settings, layer=1, head=1)


def ranking() -> PassageRanking:
    torch.manual_seed(0)
    model = BertModel(BertConfig(vocab_size=80, initializer_range=0.5, **WIDTHS))
    return PassageRanking(loaded(MINILM, model, re.compile(r"\w+|\W"), "".join(TOPICS.values())), TOPICS, TINY)


def outcome_of(original: Pretrained, swap: Swap, settings: Settings = TINY) -> Outcome:
    return distillation.distil(swap, original, distillation.original_states(original), settings)


def study_of(original: Pretrained) -> Study:
    source = Source(
        package="none 0 <b>",
        sha256={},
        texts="test",
        texts_sha256="0",
        held_out=3,
        longest=original.longest,
        task=original.task,
        measures=original.measures,
    )
    return Study(
        settings=TINY,
        sources={original.name: source},
        machine={"cpu": "a|b", "logical_cores": 1, "torch": "2", "torch_threads": 1},
    )


@pytest.mark.parametrize("original", [mapping(), ranking()], ids=lambda original: original.name)
def test_the_original_attention_agrees_wholly_and_a_distillation_leaves_the_original_alone(original):
    before = {name: weight.clone() for name, weight in original.model.state_dict().items()}
    outcome = outcome_of(original, Swap(attention="sdpa"))
    assert outcome.status == "ok"
    assert [found.step for found in outcome.comparisons] == [0, 1, 2]
    assert outcome.comparisons[0].layer_cosine == pytest.approx([1.0, 1.0], abs=1e-6)
    assert dict(outcome.comparisons[0].agreement) == pytest.approx(dict.fromkeys(original.measures, 1.0))
    assert all(torch.equal(weight, before[name]) for name, weight in original.model.state_dict().items())
    without = outcome_of(original, Swap(attention="none"), TINY.model_copy(update={"steps": 0}))
    assert [found.step for found in without.comparisons] == [0]
    assert without.comparisons[0].layer_cosine[-1] < 0.99


def test_an_outcome_is_reproducible_and_draws_nothing_from_the_callers_generator():
    original = mapping()
    swap = Swap(attention="yoso", knobs={"num_hash": 4})
    state = torch.get_rng_state()
    outcomes = [outcome_of(original, swap) for _ in range(2)]
    assert torch.equal(torch.get_rng_state(), state)
    first, second = ([(f.step, f.layer_cosine, f.agreement) for f in outcome.comparisons] for outcome in outcomes)
    assert first == second
    assert outcomes[0].all_knobs["num_hash"] == 4
    assert outcomes[0].all_knobs["hash_code_len"] == (original.longest - 1).bit_length()


def test_distillation_brings_a_student_nearer_and_ends_at_a_learning_rate_of_nothing():
    settings = Settings(steps=20, batch=4, held_out=4, max_tokens=100, learning_rate=1e-2)
    comparisons = outcome_of(mapping(settings), Swap(attention="none"), settings).comparisons
    assert comparisons[-1].layer_cosine[-1] > comparisons[0].layer_cosine[-1] + 0.05
    rates = [distillation.learning_rate(settings, done) for done in range(settings.steps)]
    assert max(rates) < settings.learning_rate
    assert rates[-1] == pytest.approx(settings.learning_rate / settings.steps)


def test_the_mapping_heads_weights_are_those_of_the_model():
    original = mapping()
    original.model.set_attn_implementation("eager")
    batch = original.held_out[0]
    with torch.no_grad():
        found = original.model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_attentions=True
        ).attentions[1][:, 1]
        own = original._scores(original.model, hidden_states(original.model, batch), batch).softmax(-1)
    torch.testing.assert_close(own, found)


def test_texts_fit_are_valid_reactions_and_none_is_in_both_parts():
    original = mapping(Settings(held_out=8, max_tokens=100))
    training = {tuple(row.tolist()) for row in original.training_batch(np.random.default_rng(1), 50).input_ids}
    for batch in original.held_out:
        assert batch.input_ids.shape[1] <= 100
        products, reactants = original._atoms(batch)
        assert products.any(1).all()
        assert reactants.any(1).all()
        assert not (products & ~batch.attention_mask.bool()).any()
        assert not training & {tuple(row.tolist()) for row in batch.input_ids}


def test_a_text_too_short_for_a_whole_reaction_is_an_error():
    with pytest.raises(ValueError, match="max_tokens must be at least 90, the longest reaction of rxnmapper, got 89"):
        mapping(Settings(max_tokens=89))


def test_a_ranking_without_differences_has_nothing_in_common():
    original = ranking()
    wanted = distillation.original_states(original)
    constant = [tuple(torch.ones_like(state) for state in states) for states in wanted]
    assert original.agreement(original.model, wanted, wanted) == pytest.approx({TOP: 1.0, RANKS: 1.0})
    assert original.agreement(original.model, constant, wanted)[RANKS] == 0.0


@pytest.mark.parametrize(
    ("swap", "words"),
    [
        (Swap(attention="yoso", knobs={"no_such_knob": 1}), "has no knob ['no_such_knob']"),
        (Swap(attention="local_window", knobs={"window": 0}), "window must be at least 1, got 0"),
        (Swap(attention="linformer"), "linformer has weights of its own"),
    ],
)
def test_what_cannot_run_is_unsupported_with_its_reason(swap, words):
    outcome = outcome_of(mapping(), swap)
    assert outcome.status == "unsupported"
    assert words in str(outcome.reason)


def test_a_student_that_diverges_keeps_the_comparisons_of_before(monkeypatch):
    original = mapping()
    monkeypatch.setattr(original, "output_loss", lambda *_: torch.tensor(float("nan")))
    outcome = outcome_of(original, Swap(attention="none"))
    assert (outcome.status, outcome.reason) == ("diverged", "the loss of step 1 is nan")
    assert [found.step for found in outcome.comparisons] == [0]


def test_a_run_is_resumed_and_its_pages_have_every_result(tmp_path, monkeypatch):
    original = mapping()
    unknown = Swap(attention="yoso", knobs={"no_such_knob": 1})
    study = command.run([original], [Swap(attention="none"), unknown], study_of(original), tmp_path)
    again = results.resumed(study_of(original), tmp_path)
    assert again == study
    monkeypatch.setattr(command, "original_states", lambda _: pytest.fail("a finished attention is measured again"))
    assert command.run([original], [Swap(attention="none")], again, tmp_path) == study
    reading = (tmp_path / page.READING).read_text(encoding="utf-8")
    shown = f"{study.outcomes[0].comparisons[-1].agreement[AGREEMENT]:.3f}"
    html = (tmp_path / page.PAGE).read_text(encoding="utf-8")
    for text in (reading, html):
        assert shown in text
        assert "no_such_knob" in text.replace("\\_", "_")
        assert "0 <b>" not in text
    assert list(tmp_path.glob("*.json")) == [tmp_path / results.RESULTS]
    other = study_of(original).model_copy(update={"settings": TINY.model_copy(update={"steps": 3})})
    with pytest.raises(ValueError, match=r"drop-in\.json has results with .*steps=2.*choose another --out"):
        results.resumed(other, tmp_path)
    (tmp_path / results.RESULTS).write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"drop-in\.json: expected results of this study, got at settings"):
        results.resumed(study_of(original), tmp_path)


def invoke(*arguments: str) -> Result:
    app = Typer()
    app.command()(command.main)
    return CliRunner().invoke(app, list(arguments))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "-1"], "--steps -1: Input should be greater than or equal to 0"),
        (["--learning-rate", "nan"], "--learning-rate nan: "),
        (["--max-tokens", "513", "--model", "rxnmapper"], "max_tokens must be at most 512"),
        (["--attention", "no_such"], "unknown attention 'no_such'; known: "),
        (["--model", "no_such"], "model must be one of rxnmapper, minilm, got 'no_such'"),
    ],
)
def test_a_wrong_argument_is_one_line_before_any_work(arguments, words, tmp_path):
    out = tmp_path / "out"
    result = invoke("--out", str(out), *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not out.exists()


def test_an_absent_package_and_a_wrong_file_are_errors_before_any_work(tmp_path, monkeypatch):
    absent = replace(RXNMAPPER, distribution="no-such-distribution")
    monkeypatch.setattr(packaged_weights, "MODELS", {"rxnmapper": absent})
    result = invoke("--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "`pip install --no-deps no-such-distribution==0.4.3`" in result.stderr
    if packaged_weights.missing(RXNMAPPER) is None:
        damaged = replace(RXNMAPPER, weights=replace(RXNMAPPER.weights, sha256="0" * 64))
        monkeypatch.setattr(packaged_weights, "MODELS", {"rxnmapper": damaged})
        result = invoke("--out", str(tmp_path / "out"))
        assert result.exit_code == 2
        assert "expected the file of rxnmapper 0.4.3 with SHA-256 000" in result.stderr
    assert not (tmp_path / "out").exists()


def test_rxnmapper_agrees_with_itself_and_not_without_attention():
    if reason := packaged_weights.missing(RXNMAPPER):
        pytest.skip(reason)
    settings = Settings(steps=0, batch=2, held_out=2, max_tokens=96)
    original, source = command.read("rxnmapper", settings)
    assert source.longest == original.longest <= 96
    same, without = (outcome_of(original, Swap(attention=name), settings).comparisons[0] for name in ("sdpa", "none"))
    assert same.agreement[AGREEMENT] == 1.0
    assert same.layer_cosine == pytest.approx([1.0] * 12, abs=1e-5)
    assert without.agreement[AGREEMENT] < 0.3


def test_every_attention_of_the_study_is_known_and_differs_from_all_others():
    labels = [swap.label for swap in command.chosen([])]
    assert sorted(labels) == sorted({swap.label for swap in command.SWAPS})
    model = mapping().model
    able = [swap for swap in command.SWAPS if swapped_attention.reason_against(swap, model, 256) is None]
    with_defaults = [(swap.attention, swapped_attention.all_knobs(swap, model, 256)) for swap in able]
    assert not [one for one in with_defaults if with_defaults.count(one) > 1]
    assert [swap.label for swap in command.chosen(["cosformer", "linear"])] == ["cosformer", "linear"]
