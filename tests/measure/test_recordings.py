"""Recorded inputs: what a trained model's attention receives, how it repeats, and which files are refused."""

import json
import re
import struct
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness.cases import runner
from harness.core.spec import Effort, QualitySpec
from harness.measure import inputs, recordings
from harness.measure.recordings import BadRecording
from harness.models import packaged_weights
from harness.models.packaged_weights import RXNMAPPER, LoadedModel

EFFORT = Effort(min_samples=1, max_samples=1, seconds=0.0, warmup_calls=0, warmup_seconds=0.0)
FULL = {"batch": 12, "heads": 8, "head_dim": 32, "recording": "rxnmapper"}


@cache
def rxnmapper() -> LoadedModel:
    reason = packaged_weights.missing(RXNMAPPER)
    if reason:
        pytest.skip(reason)
    return packaged_weights.load(RXNMAPPER)


def recorded(seq_len: int, attention: str = "softmax", **fields: object) -> QualitySpec:
    return QualitySpec.model_validate(
        {"attention": attention, "seq_len": seq_len, "inputs": "recorded"} | FULL | fields
    )


def test_the_recording_is_what_the_models_own_attention_receives() -> None:
    """Plain softmax of the recorded query, key and value, through the layer's own output, is what the layer returns."""
    model = rxnmapper().model
    attention = model.encoder.albert_layer_groups[0].albert_layers[0].attention  # ALBERT's layers share one
    returned: list[Tensor] = []
    received: list[Tensor] = []

    def note(module: object, args: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        del module
        received.append(args[0])
        returned.append(output[0])

    hook = attention.register_forward_hook(note)
    try:
        with torch.no_grad():
            model(input_ids=rxnmapper().sequence(100)[0])  # with the model's own attention
    finally:
        hook.remove()
    recording = recordings.record(rxnmapper(), 100)
    assert recording.query.shape == recording.key.shape == recording.value.shape == (12, 8, 100, 32)
    for layer in (0, 5, 11):
        q, k, v = (x[layer] for x in (recording.query, recording.key, recording.value))
        mixed = (q @ k.mT / 32**0.5).softmax(-1) @ v
        with torch.no_grad():
            output = attention.dense(mixed.transpose(0, 1).reshape(1, 100, 256))
            output = attention.LayerNorm(received[layer] + output)
        torch.testing.assert_close(output, returned[layer], rtol=1e-4, atol=1e-4)


def test_the_models_own_attention_is_back_after_the_recording() -> None:
    own = rxnmapper().model.config._attn_implementation
    recordings.record(rxnmapper(), 10)
    assert rxnmapper().model.config._attn_implementation == own


def test_a_recording_is_kept_and_a_damaged_one_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = recordings.record(rxnmapper(), 20)
    monkeypatch.setattr(recordings, "cache_dir", lambda: tmp_path)
    recordings.of_model.cache_clear()
    first = recordings.of_model(RXNMAPPER, 20)
    (kept,) = (tmp_path / "recordings").glob("*.safetensors")
    monkeypatch.setattr(packaged_weights, "load", lambda packaged: pytest.fail("recorded twice"))
    recordings.of_model.cache_clear()
    second = recordings.of_model(RXNMAPPER, 20)
    for made in (first, second):
        assert torch.equal(made.query, expected.query)
        assert torch.equal(made.value, expected.value)
    monkeypatch.undo()
    monkeypatch.setattr(recordings, "cache_dir", lambda: tmp_path)
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    recordings.of_model.cache_clear()
    assert torch.equal(recordings.of_model(RXNMAPPER, 20).value, expected.value)
    recordings.of_model.cache_clear()


def test_the_inputs_of_a_case_are_the_recording() -> None:
    made = inputs.make(recorded(100))
    expected = recordings.record(rxnmapper(), 100)
    for x, of_recording in zip((made.q, made.k, made.v), (expected.query, expected.key, expected.value), strict=True):
        torch.testing.assert_close(x, of_recording)


def test_beyond_the_recording_tokens_repeat_with_small_fresh_noise_and_a_seed_gives_the_same_bits() -> None:
    rxnmapper()
    spec = recorded(1200, batch=2, heads=1)
    made, again, other = (inputs.make(s) for s in (spec, spec, spec.model_copy(update={"seed": 1})))
    for name in ("q", "k", "v"):
        x = getattr(made, name)
        assert torch.equal(x, getattr(again, name))
        first, second, rest = x[:, :, :512], x[:, :, 512:1024], x[:, :, 1024:]
        assert torch.equal(first, getattr(other, name)[:, :, :512])
        assert not torch.equal(second, getattr(other, name)[:, :, 512:1024])
        spread = first.std(2, keepdim=True, correction=0)
        for repeated in (second, rest):
            noise = (repeated - first[:, :, : repeated.shape[2]]) / spread
            assert noise.std().item() == pytest.approx(recordings.REPEAT_NOISE, rel=0.05)
            assert abs(noise.mean().item()) < 0.005
        assert (second != first).float().mean() > 0.999


def test_fewer_layers_are_at_equal_distances_and_every_head_is_there() -> None:
    rxnmapper()
    every = inputs.make(recorded(50))
    one_each = inputs.make(recorded(50, heads=1))
    for layer in range(12):
        assert torch.equal(one_each.q[layer, 0], every.q[layer, layer % 8])
    few = inputs.make(recorded(50, batch=3, heads=2))
    for number, layer in enumerate((0, 4, 8)):
        for head in range(2):
            assert torch.equal(few.k[number, head], every.k[layer, 2 * number + head])


def test_a_case_larger_than_the_recording_is_refused() -> None:
    rxnmapper()
    with pytest.raises(ValueError, match=r"rxnmapper has 12 layers .* with 8 heads of 32, and the case wants batch 13"):
        inputs.make(recorded(16, batch=13))


def test_errors_on_recorded_inputs_say_what_was_recorded() -> None:
    rxnmapper()
    measured = runner.run(recorded(600, "yoso", batch=2, heads=1, draws=2), EFFORT)
    assert measured.status == "ok", measured.reasons
    assert measured.quality is not None
    assert measured.quality.reference == (
        "yoso_e, float64 (inputs recorded from rxnmapper: 512 tokens, repeated up to 600 with noise of 0.1 standard "
        "deviations)"
    )
    assert set(measured.quality.errors) == {"output", "grad_q", "grad_k", "grad_v"}


def test_without_the_package_the_case_is_unsupported_with_the_command_that_mends_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(packaged_weights, "missing", lambda packaged: f"not installed; run `{packaged.install}`")
    measured = runner.run(recorded(64), EFFORT)
    assert measured.status == "unsupported"
    assert measured.reasons == ["not installed; run `pip install --no-deps rxnmapper==0.4.3`"]


def test_an_error_of_the_output_alone() -> None:
    """For attentions without a backward pass, as flex on a CPU."""
    spec = QualitySpec(attention="flex_eager", seq_len=64, inputs="normal", mode="forward", draws=1)
    measured = runner.run(spec, EFFORT)
    assert measured.status == "ok", measured.reasons
    assert measured.quality is not None
    assert set(measured.quality.errors) == {"output"}
    assert spec.case_id == "quality/flex_eager-n64-b1-h2-d64-draws1-normal-fwd-fp32-cpu"


def test_normal_inputs_are_those_of_timed_calls() -> None:
    made = inputs.make(QualitySpec(attention="softmax", seq_len=512, inputs="normal"))
    expected = inputs.draw((1, 2, 512, 64), 0, "cpu")
    assert all(torch.equal(x, y) for x, y in zip((made.q, made.k, made.v, made.grad), expected, strict=True))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"inputs": "recorded"}, "recording must be given with inputs 'recorded'"),
        (
            {"inputs": "normal", "recording": "rxnmapper"},
            "recording must be given with inputs 'recorded' and only then",
        ),
        ({"inputs": "normal", "recording_sha256": "ab" * 32}, "recording_sha256 is given without recording"),
    ],
)
def test_a_recording_belongs_to_recorded_inputs(fields: dict[str, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        QualitySpec.model_validate({"attention": "softmax", "seq_len": 8} | fields)


def tensors(*shape: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    drawn = torch.randn((3, *shape), generator=torch.Generator().manual_seed(0)).to(dtype)
    return {name: x.clone() for name, x in zip(recordings.TENSORS, drawn, strict=True)}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_users_file_is_the_inputs(dtype: torch.dtype, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = tensors(2, 3, 10, 8, dtype=dtype)
    save_file(given, tmp_path / "mine.safetensors", {"by": "me"})
    file = recordings.read_file(tmp_path / "mine.safetensors")
    assert (file.name, file.batch, file.heads, file.seq_len, file.head_dim) == ("mine.safetensors", 2, 3, 10, 8)
    monkeypatch.setenv(recordings.FILE, str(tmp_path / "mine.safetensors"))
    sizes = {"batch": 2, "heads": 3, "head_dim": 8, "recording": file.name, "recording_sha256": file.sha256}
    made = inputs.make(recorded(10, **sizes))
    assert torch.equal(made.k, given["key"].float())
    assert torch.equal(inputs.make(recorded(4, **sizes)).v, given["value"].float()[:, :, :4])
    save_file(tensors(2, 3, 9, 8), tmp_path / "mine.safetensors")
    recordings._of_file.cache_clear()
    with pytest.raises(BadRecording, match=r"expected the file that the run began with, of SHA-256 .*; it was changed"):
        inputs.make(recorded(10, **sizes))


def test_a_record_of_a_file_that_was_not_given_is_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(recordings.FILE, raising=False)
    spec = recorded(10, batch=1, heads=1, recording="mine.safetensors", recording_sha256="ab" * 32)
    reason = recordings.unavailable(spec)
    assert reason is not None
    assert reason.endswith("run with --inputs mine.safetensors")


def bad_files() -> dict[str, tuple[object, str]]:
    not_finite = tensors(1, 1, 4, 4)
    not_finite["key"][0, 0, 1, 2] = float("nan")
    too_large = tensors(1, 1, 4, 4, dtype=torch.float64)
    too_large["value"][0, 0, 0, 0] = 1e300
    other_shape = tensors(1, 1, 4, 4) | {"value": torch.zeros(1, 1, 4, 5)}
    header = json.dumps({"query": 1}).encode()
    return {
        "no file": (None, "expected a safetensors file, got No such file or directory; give the path"),
        "text": (b"query, key, value", "expected a safetensors file, got a file of 17 bytes without its header"),
        "header": (struct.pack("<Q", len(header)) + header, "got a file whose header is not that of safetensors"),
        "names": ({"q": torch.zeros(1)}, "expected the tensors query, key, value, [B, H, N, D] each, got q; save"),
        "dimensions": (tensors(4, 4), "expected query of shape [B, H, N, D], none of them 0, got [4, 4]; save it"),
        "empty": (tensors(1, 1, 0, 4), "expected query of shape [B, H, N, D], none of them 0, got [1, 1, 0, 4]"),
        "shapes": (other_shape, "expected value of the shape of query, [1, 1, 4, 4], got [1, 1, 4, 5]; save"),
        "integers": (tensors(1, 1, 4, 4, dtype=torch.int32), "of dtype F64, F32, F16, BF16, got I32; save"),
        "nan": (not_finite, "expected finite numbers in key, got 1 of 16 that are NaN, infinite or beyond float32"),
        "range": (too_large, "expected finite numbers in value, got 1 of 16 that are NaN, infinite or beyond float32"),
    }


@pytest.mark.parametrize("kind", bad_files())
def test_a_bad_file_is_refused_with_what_was_expected_and_what_came(kind: str, tmp_path: Path) -> None:
    content, words = bad_files()[kind]
    path = tmp_path / "mine.safetensors"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, dict):
        save_file(content, path)
    with pytest.raises(BadRecording, match=re.escape(words)) as caught:
        recordings.read_file(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    save_file(tensors(1, 1, 4, 4), path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BadRecording, match=r"expected a whole safetensors file, got .*; save it again"):
        recordings.read_file(path)
