import pytest
import wrong_attentions

from harness.core import registry
from harness.measure.recordings import RecordingFile
from harness.profiles import cases, gpu, profile, quick, standard
from harness.profiles.profile import COMPANIONS, MODELS_OF_TRANSFORMERS
from harness.profiles.selection import Selection, Shape
from harness.statistics.growth import MIN_EXPONENT_LENGTHS

SIZES = ("quick", "standard", "full")
KINDS = (cases.operation, cases.model, cases.quality, cases.task)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", profile.names())
def test_case_ids_are_unique(kind, name):
    ids = [spec.case_id for spec in kind(Selection(name, device="cuda"))]
    assert ids or (name, kind) == ("gpu", cases.task) or (name == "paper" and kind is not cases.model)
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", SIZES)
def test_every_attention_is_measured_alone_and_in_full_in_the_encoder(name):
    selection = Selection(name)
    for kind in (cases.operation, cases.model):
        found = {(spec.attention, spec.mode) for spec in kind(selection)}
        few = name != "full" and kind is cases.model
        assert len(found) == 2 * len(quick.ENCODERS if few else registry.names())


def test_quick_has_the_headline_at_every_length_and_enough_lengths_of_the_others_for_an_exponent():
    lengths = {}
    for spec in cases.operation(Selection("quick")):
        lengths.setdefault(spec.attention, set()).add(spec.seq_len)
    for name in quick.HEADLINE:
        assert lengths[name] == {*profile.get("quick").operation.lengths}
    steps = [spec for spec in cases.operation(Selection("quick")) if spec.mode == "forward_backward"]
    assert {spec.attention for spec in steps if spec.seq_len == quick.LONG} == {*quick.LONG_BACKWARD}
    for name in set(lengths) - set(quick.COMPILED):
        assert len(lengths[name]) >= MIN_EXPONENT_LENGTHS
    assert {*quick.HEADLINE, *quick.COMPILED, *quick.ENCODERS} <= {*registry.names()}
    encoders = {
        (spec.seq_len, spec.mode): set(quick.encoder_attentions(spec.seq_len, spec.mode))
        for spec in cases.model(Selection("quick"))
    }
    assert encoders.pop((quick.LONG, "forward")) == set(quick.LONG_ENCODERS)
    assert (quick.LONG, "training_step") not in encoders
    assert set(map(frozenset, encoders.values())) == {frozenset(quick.ENCODERS)}


def test_standard_has_only_two_quadratic_attentions_at_the_longest_length():
    found = [spec for spec in cases.operation(Selection("standard")) if not spec.padding]
    longest = {spec.attention for spec in found if spec.seq_len == standard.LONGEST}
    assert {"sdpa", "yoso_e", "yoso", "linear", "nystromformer", "longformer", "performer_relu"} <= longest
    assert not longest & {"softmax", "sdpa_math", "sdpa_flash", "flex", "transformers_yoso_e", "xformers_cutlass"}
    assert {spec.attention for spec in found if spec.seq_len == 8192} == {*registry.names()}
    assert {spec.seq_len for spec in cases.operation(Selection("standard")) if spec.padding} == {*standard.PADDED}


def test_quick_leaves_nothing_out_that_the_user_asks_for():
    asked = cases.operation(Selection("quick", attentions=("linear",), everything=True))
    named = [spec for spec in asked if spec.attention == "linear"]
    assert {spec.seq_len for spec in named} == {*profile.get("quick").operation.lengths}
    asked = cases.operation(Selection("quick", seq_lens=(64,)))
    assert {spec.attention for spec in asked} == {*registry.names()}


@pytest.mark.parametrize("name", SIZES)
def test_the_comparison_with_transformers_is_in_every_profile_at_equal_sizes(name):
    rivals = [
        spec
        for spec in cases.model(Selection(name))
        if (spec.seq_len, spec.mode, spec.head, spec.dtype) == (4096, "forward", "encoder", "float32")
        and (spec.family, spec.attention) in {*MODELS_OF_TRANSFORMERS, ("yoso", "yoso")}
    ]
    assert len(rivals) == 3
    assert len({(s.layers, s.hidden_size, s.heads, s.batch, s.vocab_size) for s in rivals}) == 1


def test_each_profile_has_more_than_the_one_before():
    counts = [len(cases.operation(Selection(name))) for name in SIZES]
    assert counts == sorted(set(counts))
    assert max(spec.seq_len for spec in cases.operation(Selection("full"))) == 65536


def test_the_users_choice_replaces_the_profiles():
    selection = Selection(
        seq_lens=(64, 32), attentions=("sdpa_math",), dtype="bfloat16", device="cuda", only=True, everything=True
    )
    for kind in (cases.operation, cases.model, cases.task):
        specs = kind(selection)
        assert {spec.seq_len for spec in specs} == {64, 32}
        assert {spec.attention for spec in specs} == {"sdpa_math"}
        assert {spec.dtype for spec in specs} == {"bfloat16"}
        assert {spec.device for spec in specs} == {"cuda"}


def test_the_gpu_profile_is_a_fixed_list_to_choose_from():
    of = {"profile": "gpu", "device": "cuda"}
    everything = cases.operation(Selection(**of))
    main = [
        (spec.attention, spec.seq_len, spec.mode)
        for spec in everything
        if (spec.dtype, spec.batch * spec.heads, spec.head_dim, dict(spec.knobs)) == ("bfloat16", 64, 64, {})
        and not spec.padding
    ]
    for n in (512, 4096, 8192, 16384, 65536):
        for mode in ("forward", "forward_backward"):
            assert {("yoso", n, mode), ("yoso_e", n, mode), ("sdpa_flash", n, mode), ("sdpa_cudnn", n, mode)} <= {*main}
    assert max(spec.seq_len for spec in everything) == 2**20
    chosen = cases.operation(Selection(**of, seq_lens=(4096,), attentions=("yoso",), dtype="float32"))
    assert {(spec.seq_len, spec.attention, spec.dtype) for spec in chosen} == {(4096, "yoso", "float32")}
    assert {spec.device for kind in KINDS for spec in kind(Selection(**of))} == {"cuda"}


COMPILE_SECONDS = 15.0
"""An allowance for compiling FlexAttention with Triton for one shape; it is not measured."""


def test_the_gpu_profile_has_the_other_attentions_in_both_modes():
    found = [(spec.attention, spec.mode) for spec in cases.operation(Selection("gpu", "cuda"))]
    for name in gpu.OTHERS:
        assert name in registry.names()
        assert found.count((name, "forward")) == found.count((name, "forward_backward")) == 1


def test_the_gpu_profile_takes_seven_minutes_at_a_quarter_of_an_h100s_ceilings():
    """Each case costs a fixed time plus the calls of verification, warm-up, samples and memory.

    A call takes four times its bound.

    The ceilings and the fixed cost, half of which is counting kernels in the other process, are those of the H100 in
    ``reports/gpu-h100/run.json``.
    """
    rates = {"matmul bfloat16": 8e14, "matmul float16": 8e14, "matmul float32": 5e13, "vector float32": 6e13}
    rates |= {"copy": 3e12, "cache read": 5e12}
    selection = Selection("gpu", "cuda")
    seconds = 0.0
    for spec in cases.operation(selection):
        if spec.attention.startswith("xformers"):
            continue  # as fast as torch's own FlashAttention, and it takes no time where it is missing
        work = registry.get(spec.attention).cost(spec)
        call = max(amount / rates[name] for name, amount in work.items()) / 0.25
        samples = min(max(0.5 / call, 3), 60)
        seconds += 1.3 + (6 + samples) * call
        if spec.attention == "flex":
            seconds += COMPILE_SECONDS
    seconds += 3.0 * len(cases.model(selection)) + 1.0 * len(cases.quality(selection))
    assert 60 < seconds < 420


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"profile": "fast"}, "unknown profile 'fast'; known: full, gpu, paper, quick, standard"),
        ({"profile": "gpu"}, "profile 'gpu' needs a cuda device, got device 'cpu': add --device cuda"),
        ({"dtype": "int8"}, "unknown dtype 'int8'; known: float32"),
        ({"attentions": ("sdpa", "nope")}, "unknown attention nope; known: .*softmax"),
        ({"seq_lens": (0,)}, "1 or more"),
        ({"only": True}, "--only leaves out all but the attentions that --attention names; add --attention NAME"),
        (
            {"profile": "gpu", "device": "cuda", "shape": Shape(heads=3, padding=0.5)},
            "profile 'gpu' is a list of cases with shapes of their own: leave out --heads, --padding, or choose quick",
        ),
        (
            {"shape": Shape(head_dim=48), "inputs": ("recorded",)},
            "--head-dim must be that of the recorded inputs, 32 in the recorded model, got 48; leave out one of",
        ),
    ],
)
def test_an_unknown_value_is_refused_with_the_known_ones(wrong, words):
    with pytest.raises(ValueError, match=words):
        Selection(**wrong)


def test_the_paper_profile_is_its_protocol():
    specs = cases.model(Selection("paper", device="cuda"))
    assert {spec.seq_len for spec in specs} == {128, 256, 512, 1024, 2048, 4096}
    assert {(s.family, s.layers, s.hidden_size, s.heads, s.mode) for s in specs} == {
        ("lra", 6, 256, 4, "training_step")
    }
    largest, common = ([spec for spec in specs if spec.largest_batch is wanted] for wanted in (True, False))
    assert len(largest) == len(common)
    assert len({spec.batch for spec in common}) == 1
    sampled = {(dict(spec.knobs)["num_hash"], spec.conv_window) for spec in largest if spec.attention == "yoso"}
    assert sampled == {(16, None), (32, None), (16, 33), (32, 33)}
    rivals = {"softmax", "linformer", "reformer", "performer_relu", "longformer", "nystromformer"}
    assert rivals <= {spec.attention for spec in specs}
    for spec in specs:
        assert set(spec.knobs) <= set(registry.get(spec.attention).default_knobs(spec))


def test_a_named_attention_with_a_budget_has_quality_cases_by_budget():
    specs = cases.quality(Selection("quick", attentions=("performer_softmax", "linformer")))
    by_budget = {(spec.attention, *spec.knobs) for spec in specs if spec.inputs == "matched"}
    assert by_budget == {("performer_softmax", "num_features")}


def test_a_named_attention_is_measured_alone_beside_its_companions_in_few_cases():
    selection = Selection("quick", attentions=("linear",))
    assert cases.model(selection) == cases.task(selection) == []
    timed, errors = cases.operation(selection), cases.quality(selection)
    for specs in (timed, errors):
        assert {spec.attention for spec in specs} == {"linear", *COMPANIONS}
        for n in quick.COMPARED_LENGTHS:
            assert {spec.attention for spec in specs if spec.seq_len == n} == {"linear", *COMPANIONS}
    assert len(timed) + len(errors) <= 64
    three = Selection("quick", attentions=("bigbird", "performer_softmax", "linear"), seq_lens=(256, 512))
    assert sum(len(kind(three)) for kind in KINDS) <= 66
    assert {spec.attention for spec in cases.operation(Selection("quick", attentions=("sdpa",)))} == {*COMPANIONS}


def test_everything_adds_models_and_tasks_and_only_leaves_the_companions_out():
    of = {"profile": "quick", "attentions": ("linear",)}
    for kind in KINDS:
        assert {"linear", *COMPANIONS} <= {spec.attention for spec in kind(Selection(**of, everything=True))}
        only = {spec.attention for spec in kind(Selection(**of, everything=True, only=True))}
        assert only == {"linear"}
    assert {spec.attention for spec in cases.quality(Selection(**of, only=True))} == {"linear"}


def test_the_users_shape_is_that_of_times_errors_and_models():
    shape = Shape(batch=2, heads=3, head_dim=48, padding=0.5)
    of = {"seq_lens": (64,), "shape": shape}
    compared = Selection("quick", attentions=("linear",), **of)
    for spec in (*cases.operation(compared), *cases.quality(compared)):
        assert (spec.batch, spec.heads, spec.head_dim) == (2, 3, 48)
    assert {spec.padding for spec in cases.operation(compared)} == {0.5}
    assert {spec.inputs for spec in cases.quality(compared)} == {"normal", "matched"}  # recorded heads have 32 numbers
    for spec in cases.model(Selection("quick", **of)):
        assert (spec.batch, spec.heads, spec.hidden_size) == (2, 3, 144)
    without = cases.operation(Selection("standard", shape=Shape(padding=0.0)))
    assert {spec.padding for spec in without} == {0.0}
    padded = cases.operation(Selection("standard", shape=Shape(padding=0.1)))
    assert {(spec.attention, spec.seq_len) for spec in padded} == {(spec.attention, spec.seq_len) for spec in without}


def test_errors_at_a_large_shape_are_of_fewer_heads():
    large = Selection("quick", attentions=("linear",), seq_lens=(2048,), shape=Shape(batch=32, heads=16))
    for spec in cases.quality(large):
        assert spec.batch * spec.heads * spec.seq_len**2 <= cases.MOST_PAIRS
    assert {(spec.batch, spec.heads) for spec in cases.operation(large)} == {(32, 16)}


@pytest.mark.parametrize(
    "wrong",
    [{"batch": 0}, {"heads": -1}, {"head_dim": 0}, {"padding": 1.0}, {"padding": -0.1}, {"padding": float("nan")}],
)
def test_a_shape_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"--(batch|heads|head-dim|padding) must be "):
        Shape(**wrong)


def test_repeated_lengths_are_measured_once():
    for kind in KINDS:
        ids = [spec.case_id for spec in kind(Selection(seq_lens=(32, 16, 32)))]
        assert len(ids) == len(set(ids))


def test_the_users_kinds_of_inputs_are_those_of_all_errors():
    chosen = cases.quality(Selection("quick", attentions=("yoso",), inputs=("clustered",)))
    assert {spec.inputs for spec in chosen} == {"clustered"}
    assert {spec.seq_len for spec in chosen} == {*quick.COMPARED_LENGTHS}


class Estimating(wrong_attentions.StubPlugin):
    """A plugin of the user's own that estimates softmax attention."""

    estimates = "softmax"
    budget = "samples"

    def default_knobs(self, spec):
        return {"samples": 4}


def test_an_approximation_of_the_users_own_is_in_every_profile_by_its_declarations(monkeypatch):
    monkeypatch.setitem(registry._added, "estimating", Estimating("estimating", None))
    for name in SIZES:
        own = [spec for spec in cases.quality(Selection(name)) if spec.attention == "estimating"]
        assert {spec.knobs.get("samples") for spec in own if spec.inputs == "matched"} >= {8, 32}
    gpu_selection = Selection("gpu", "cuda", attentions=("estimating",))
    for kind in (cases.operation, cases.quality):
        assert "estimating" in {spec.attention for spec in kind(gpu_selection)}
    beside = {spec.attention for spec in cases.operation(gpu_selection)}
    assert beside == {"estimating", *profile.get("gpu").companions}
    paper = {spec.attention for spec in cases.model(Selection("paper", attentions=("estimating",)))}
    assert paper == {"estimating", *COMPANIONS}


@pytest.mark.parametrize("name", ["quick", "standard"])
def test_every_timed_setting_has_its_error_on_inputs_as_timed_and_on_recorded_ones(name):
    """Errors of padded cases are those of the same length without padding, because padded keys have no effect. Budgets
    other than the default have their own test."""

    def setting(spec):
        knobs = registry.get(spec.attention).knobs(spec)
        return spec.attention, spec.seq_len, spec.dtype, spec.device, tuple(sorted(knobs.items()))

    found = cases.quality(Selection(name))
    for inputs in ("normal", "recorded"):
        of_kind = {setting(spec): spec for spec in found if spec.inputs == inputs}
        left_out = {}
        for timed in (spec for spec in cases.operation(Selection(name)) if not spec.knobs):
            reason = profile.get(name).quality.leaves_out(timed)
            if reason is None:
                error = of_kind[setting(timed)]
                # A forward case measures no gradient: only where the device has no backward pass to time.
                unsupported = timed.mode == "forward_backward" and error.mode == "forward"
                assert not unsupported or registry.get(timed.attention).unsupported(timed)
                assert inputs == "recorded" or error.head_dim == timed.head_dim
            else:
                left_out[timed.attention] = reason
        assert set(left_out) == {"flex"}
        assert all(len(reason) > 40 for reason in left_out.values())


def test_the_standard_profile_times_budgets_where_it_measures_their_errors():
    """The quick one would take more than ten minutes with them."""
    name = "standard"

    def budgets(specs):
        plugins = [(spec, registry.get(spec.attention)) for spec in specs]
        return {(s.attention, s.seq_len, plugin.knobs(s)[plugin.budget]) for s, plugin in plugins if plugin.estimates}

    errors = cases.quality(Selection(name))
    timed = cases.operation(Selection(name))
    for inputs in ("matched", "clustered", "recorded"):
        measured = budgets(spec for spec in errors if spec.inputs == inputs)
        for mode in ("forward", "forward_backward"):
            assert budgets(spec for spec in timed if spec.mode == mode and spec.knobs) <= measured
            if inputs == "matched":
                assert measured <= budgets(spec for spec in timed if spec.mode == mode)


def test_errors_of_timed_settings_are_few_and_small():
    """One or two draws each, and few heads where gradients of n x n weights would take gigabytes."""
    for spec in cases.quality(Selection("quick")):
        if spec.inputs in ("normal", "recorded"):
            assert spec.draws <= 4
            assert spec.batch * spec.heads * spec.seq_len**2 <= 2 * 4096**2


def test_a_users_file_takes_the_place_of_rxnmapper():
    file = RecordingFile("mine.safetensors", "ab" * 32, batch=3, heads=4, seq_len=77, head_dim=48)
    found = [spec for spec in cases.quality(Selection("quick", recording=file)) if spec.inputs == "recorded"]
    assert {(spec.recording, spec.recording_sha256) for spec in found} == {(file.name, file.sha256)}
    assert {spec.head_dim for spec in found} == {48}
    by_budget = [spec for spec in found if "num_hash" in spec.knobs]
    assert {(spec.seq_len, spec.batch, spec.heads) for spec in by_budget} == {(77, 3, 4)}
    assert {spec.seq_len for spec in found} == {77, *profile.get("quick").operation.lengths}
    asked = cases.quality(Selection("quick", recording=file, seq_lens=(50,)))
    assert {spec.seq_len for spec in asked} == {50}
    assert len({spec.case_id for spec in asked}) == len(asked)
    assert any(
        spec.case_id.startswith("quality/yoso-n50-b3-h4-d48-draws2-recorded-mine.safetensors-abababab-fp32")
        for spec in asked
    )
