import pytest

from harness import profiles, registry
from harness.profiles import PROFILES, Selection

KINDS = (profiles.operation, profiles.model, profiles.quality, profiles.task)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", PROFILES)
def test_case_ids_are_unique(kind, profile):
    ids = [spec.case_id for spec in kind(Selection(profile))]
    assert ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_attention_is_measured_alone_and_in_the_encoder(profile):
    selection = Selection(profile)
    for kind, modes in ((profiles.operation, 2), (profiles.model, 2)):
        found = {(spec.attention, spec.mode) for spec in kind(selection)}
        assert len(found) == modes * len(registry.names())


@pytest.mark.parametrize("profile", PROFILES)
def test_the_comparison_with_transformers_is_in_every_profile_at_equal_sizes(profile):
    rivals = [
        spec
        for spec in profiles.model(Selection(profile))
        if (spec.seq_len, spec.mode, spec.head, spec.dtype) == (4096, "forward", "encoder", "float32")
        and (spec.family, spec.attention) in {("bert", "sdpa"), ("transformers_yoso", "yoso_e"), ("yoso", "yoso")}
    ]
    assert len(rivals) == 3
    assert len({(s.layers, s.hidden_size, s.heads, s.batch, s.vocab_size) for s in rivals}) == 1


def test_each_profile_has_more_than_the_one_before():
    counts = [len(profiles.operation(Selection(profile))) for profile in PROFILES]
    assert counts == sorted(set(counts))
    assert max(spec.seq_len for spec in profiles.operation(Selection("full"))) == 65536


def test_what_was_asked_for_replaces_what_the_profile_has():
    selection = Selection(seq_lens=(64, 32), attentions=("sdpa_math",), dtype="bfloat16", device="cuda")
    for kind in (profiles.operation, profiles.model, profiles.task):
        specs = kind(selection)
        assert {spec.seq_len for spec in specs} == {64, 32}
        assert {spec.attention for spec in specs} == {"sdpa_math"}
        assert {spec.dtype for spec in specs} == {"bfloat16"}
        assert {spec.device for spec in specs} == {"cuda"}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"profile": "fast"}, "unknown profile 'fast'; known: quick, standard, full"),
        ({"dtype": "int8"}, "unknown dtype 'int8'; known: float32"),
        ({"attentions": ("sdpa", "nope")}, "unknown attention nope; known: .*softmax"),
        ({"seq_lens": (0,)}, "1 or more"),
    ],
)
def test_the_unknown_is_refused_with_the_known(wrong, words):
    with pytest.raises(ValueError, match=words):
        Selection(**wrong)
