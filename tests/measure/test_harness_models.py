import pytest
import torch

from harness.core import registry
from harness.core.spec import ModelSpec
from harness.measure import model_agreement
from harness.models import model_case

TINY = {"seq_len": 12, "hidden_size": 16, "heads": 2, "layers": 1, "vocab_size": 40, "batch": 2}
LOGITS = {
    "encoder": (2, 12, 16),
    "masked_lm": (2, 12, 40),
    "sequence_classification": (2, 2),
    "multiple_choice": (2, 2),
    "token_classification": (2, 12, 2),
    "question_answering": (2, 12),
}


def spec(**fields):
    return ModelSpec(**(TINY | {"attention": "yoso_e"} | fields))


@pytest.mark.parametrize("head", LOGITS)
@pytest.mark.parametrize(
    ("family", "attention"),
    [("yoso", "yoso"), ("yoso", "sdpa_flash"), ("bert", "sdpa"), ("transformers_yoso", "yoso_e")],
)
def test_every_head_of_every_family_runs(family, attention, head):
    case = model_case.build(spec(family=family, attention=attention, head=head))
    assert case.call().shape == LOGITS[head]
    step = model_case.build(spec(family=family, attention=attention, head=head, mode="training_step"))
    assert step.call().shape == ()
    assert step.inputs.keys() > case.inputs.keys() or head == "encoder"


def test_families_have_the_same_number_of_parameters():
    for head in LOGITS:
        cases = [
            model_case.build(spec(family=family, attention=attention, head=head))
            for family, attention in (("yoso", "yoso"), ("bert", "sdpa"), ("transformers_yoso", "yoso_e"))
        ]
        assert len({case.parameters for case in cases}) == 1, head


def test_parameters_count_shared_weights_once():
    case = model_case.build(spec(head="masked_lm"))
    unique = {id(p): p.numel() for p in case.model.state_dict(keep_vars=True).values()}
    assert case.parameters == sum(unique.values())


@pytest.mark.parametrize("head", ["encoder", "masked_lm"])
def test_a_training_step_changes_the_weights_and_lowers_the_loss(head):
    case = model_case.build(spec(mode="training_step", head=head))
    before = {name: parameter.clone() for name, parameter in case.model.named_parameters()}
    losses = [case.call().item() for _ in range(20)]
    assert losses[-1] < losses[0]
    key = "attention.self.key.weight"
    changed = [n for n, p in case.model.named_parameters() if n.endswith(key) and not torch.equal(p, before[n])]
    assert changed
    assert all(parameter.grad is None for parameter in case.model.parameters())


def test_a_forward_call_keeps_no_graph():
    case = model_case.build(spec())
    result = case.call()
    assert result.is_inference()
    assert not case.model.training


def test_weights_and_inputs_depend_on_the_seed_alone():
    a, b, c = (model_case.build(spec(attention=x, seed=s)) for x, s in (("yoso", 0), ("sdpa", 0), ("yoso", 1)))
    assert torch.equal(a.inputs["input_ids"], b.inputs["input_ids"])
    assert not torch.equal(a.inputs["input_ids"], c.inputs["input_ids"])
    for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert torch.equal(x, y)
    assert not torch.equal(next(a.model.parameters()), next(c.model.parameters()))


def test_building_does_not_change_the_global_random_state():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    model_case.build(spec())
    assert torch.equal(torch.rand(1), expected)


def test_knobs_reach_the_model():
    knobs = {"num_hash": 5, "hash_code_len": 3, "hash_family": "gaussian", "normalization": "sum", "norm_floor": 0.1}
    for family in ("yoso", "bert"):
        config = model_case.build(spec(family=family, attention="yoso", knobs=knobs)).model.config
        assert {name: getattr(config, name) for name in knobs} == knobs
        assert config._attn_implementation == "yoso"


@pytest.mark.parametrize("family", ["yoso", "bert"])
@pytest.mark.parametrize("attention", ["yoso", "yoso_e"])
def test_a_model_with_any_normalization_is_verified(family, attention):
    for knobs in ({"norm_floor": 0.5}, {"normalization": "sum", "norm_floor": 0.1}):
        case = spec(family=family, attention=attention, knobs=knobs, mode="training_step")
        checks = model_agreement.check(registry.get(attention), case, model_case.build(case))
        assert "layers: output" in {check.what for check in checks}
        assert [check for check in checks if not check.passed] == []
        model = model_case.build(case)
        model.model.config.norm_floor = 0.0  # other than the case says
        failed = {
            check.what for check in model_agreement.check(registry.get(attention), case, model) if not check.passed
        }
        assert "layers: output" in failed


def test_our_model_and_transformers_model_compute_the_same():
    ours, transformers_model = (model_case.build(spec(family=family)) for family in ("yoso", "transformers_yoso"))
    assert (ours.call() - transformers_model.call()).abs().max() < 1e-5


def test_dtype_and_intermediate_size():
    case = model_case.build(spec(dtype="bfloat16"))
    assert {parameter.dtype for parameter in case.model.parameters()} == {torch.bfloat16}
    assert case.call().dtype == torch.bfloat16
    assert case.model.config.intermediate_size == 4 * TINY["hidden_size"]


def test_masked_lm_scores_a_fixed_share_of_the_tokens():
    labels = model_case.build(spec(head="masked_lm", mode="training_step")).inputs["labels"]
    assert (labels != -100).sum(-1).tolist() == [2, 2]


def test_held_tensors_are_the_weights_and_the_inputs():
    case = model_case.build(spec())
    assert len(case.held) == len(list(case.model.parameters())) + 1


def test_a_model_that_gives_nan_fails_its_check():
    case = model_case.build(spec())
    case.model.embeddings.word_embeddings.weight.data.fill_(float("nan"))
    failed = [check for check in model_agreement.check(registry.get("yoso_e"), spec(), case) if not check.passed]
    assert failed[0].what == "share of numbers that are not finite in the result"


def test_bad_specs_are_refused():
    with pytest.raises(registry.RegistryError, match=r"unknown attention 'nope'.*yoso"):
        model_case.build(spec(attention="nope"))
    with pytest.raises(ValueError, match=r"no knob \['depth'\]"):
        model_case.build(spec(knobs={"depth": 1}))
    with pytest.raises(ValueError, match="expected attention 'yoso_e', got 'sdpa'"):
        model_case.build(spec(family="transformers_yoso", attention="sdpa"))
    with pytest.raises(
        ValueError, match=r"'transformers_yoso' contains its own.*got normalization 'l2' and norm_floor 0.1"
    ):
        model_case.build(spec(family="transformers_yoso", knobs={"norm_floor": 0.1}))
    with pytest.raises(ValueError, match="norm_floor must be a finite number of at least 0, got -1"):
        model_case.build(spec(knobs={"norm_floor": -1}))
    with pytest.raises(ValueError, match="vocab_size"):
        model_case.build(spec(vocab_size=3))
    with pytest.raises(ValueError, match="hidden_size"):
        model_case.build(spec(hidden_size=15))
