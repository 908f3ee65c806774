"""An attention that is right only at the sizes of its case is found at a neighbour of the case."""

import failed_sentences
import pytest
import torch
import wrong_attentions as wrong
from contract_breakers import assumes_padding_at_the_end

from harness.cases import runner
from harness.core import registry
from harness.core.spec import Effort, OperationSpec
from harness.measure import inputs, neighbours, verify
from yoso import torch_private

ONCE = Effort(min_samples=1, max_samples=1, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)


def spec_of(plugin, **changes):
    return OperationSpec(**({"attention": plugin.name, "seq_len": 64, "batch": 2, "heads": 2} | changes))


def reasons(function, **changes):
    """What the neighbours find wrong; the case itself must pass."""
    plugin = wrong.plugin_of(function)
    spec = spec_of(plugin, **changes)
    assert failed_sentences.of(verify.check(plugin, spec, plugin.build(spec), inputs.make(spec))) == []
    *failed, summary = neighbours.check(plugin, spec)
    assert summary.passed == (not failed)
    return failed_sentences.of(failed)


def named(messages):
    """The neighbours in the messages, without what was wrong there."""
    return [message.removeprefix("neighbour ").split(": ")[0] for message in messages]


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_right_attention_passes(dtype, mode):
    assert reasons(wrong.right, dtype=dtype, mode=mode) == []
    assert reasons(wrong.unspecified_at_padding, dtype=dtype, mode=mode) == []


@pytest.mark.parametrize("mode", ["forward", "forward_backward"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_attention_that_is_right_only_at_head_size_64_is_wrong_at_the_others(dtype, mode):
    found = reasons(wrong.right_only_at_head_size_64, dtype=dtype, mode=mode)
    sizes = ["32 n=129", "80 n=96", "16 n=33", "128 n=65"]
    assert [name.split(" batch")[0] for name in named(found)] == [f"head_dim={size}" for size in sizes]
    assert all(": output: error 0." in message for message in found)


def test_attention_that_is_right_only_up_to_two_sequences_is_wrong_at_three():
    found = named(reasons(wrong.right_only_up_to_two_sequences))
    assert "head_dim=64 n=77 batch=3 heads=3" in found
    assert all("batch=3" in name for name in found)


def test_attention_that_is_right_only_at_even_lengths_is_wrong_at_odd_ones():
    found = named(reasons(wrong.right_only_at_even_lengths))
    assert "head_dim=64 n=77 batch=3 heads=3" in found
    assert not any("n=96" in name for name in found)


def test_what_the_attention_raises_is_the_reason():
    found = reasons(wrong.raises_at_odd_lengths)
    assert found[0].startswith("neighbour head_dim=32 n=129 batch=3 heads=3 padding=per_sequence raised RuntimeError: ")


def test_error_in_unsupported_is_the_reason():
    plugin = wrong.plugin_of(wrong.right)
    plugin.unsupported = lambda spec: [] if spec.head_dim == 64 else [][spec.head_dim]
    found = failed_sentences.of(neighbours.check(plugin, spec_of(plugin)))
    assert found[0].startswith("neighbour head_dim=32 n=129 batch=3 heads=3 padding=per_sequence raised IndexError: ")


def test_attention_that_assumes_padding_at_the_end_is_wrong_at_the_front():
    found = named(reasons(assumes_padding_at_the_end, padding=0.25))
    assert "head_dim=64 n=48 batch=3 heads=3 padding=left" in found
    assert not any("right" in name for name in found)


def test_attention_that_uses_one_mask_for_all_sequences_is_wrong_where_each_has_its_own():
    found = named(reasons(wrong.uses_the_first_mask_for_all))
    assert "head_dim=64 n=77 batch=3 heads=3 padding=per_sequence" in found
    assert all("padding=per_sequence" in name or "padding=holes" in name for name in found)


def test_attention_that_takes_a_mask_with_holes_for_an_interval_is_wrong():
    assert any("padding=holes" in name for name in named(reasons(wrong.fills_the_holes_of_the_mask)))


def test_mask_is_tested_also_where_the_case_has_no_padding():
    assert any("padding=right" in name for name in named(reasons(wrong.ignores_the_mask)))


def test_dtype_is_that_of_the_case():
    assert reasons(wrong.wrong_in_float16_at_head_size_80, dtype="bfloat16") == []
    found = reasons(wrong.wrong_in_float16_at_head_size_80, dtype="float16")
    assert named(found) == ["head_dim=80 n=96 batch=3 heads=3 padding=left"]


class Limited(wrong.StubPlugin):
    """Supports head size 64 without padding only, and has a knob that no length below 64 allows."""

    def default_knobs(self, spec):
        return {"window": 8}

    def unsupported(self, spec):
        limits = {"head size": spec.head_dim != 64, "padding": spec.padding > 0}
        limits["window"] = self.knobs(spec)["window"] > spec.seq_len
        return [f"{name} is not supported" for name, is_refused in limits.items() if is_refused]

    def build(self, spec):
        self.built = [*getattr(self, "built", []), dict(spec.knobs)]
        return super().build(spec)


def test_declared_limits_are_left_out_and_counted():
    plugin = Limited("limited", wrong.RIGHT.make_module)
    (summary,) = neighbours.check(plugin, spec_of(plugin, knobs={"window": 64}))
    assert summary.what == "neighbours: 2 cases, 8 unsupported, worst error / allowed"
    assert plugin.built == [{"window": 64}, {}]  # n=77, and n=40 with the default window


def test_cases_that_differ_only_in_their_sizes_share_their_neighbours():
    plugin = Limited("limited", wrong.RIGHT.make_module)
    for n, padding in ((64, 0.0), (512, 0.25)):
        neighbours.check(plugin, spec_of(plugin, seq_len=n, padding=padding))
    assert len(plugin.built) == 2
    neighbours.check(plugin, spec_of(plugin, dtype="bfloat16"))
    assert len(plugin.built) == 4


def test_slow_attention_has_fewer_neighbours_and_the_summary_says_so(monkeypatch):
    monkeypatch.setattr(neighbours, "TIME_LIMIT", 0.0)
    plugin = wrong.plugin_of(wrong.right)
    (summary,) = neighbours.check(plugin, spec_of(plugin))
    assert summary.what == "neighbours: 1 case, 9 left out to save time, worst error / allowed"


def test_record_names_the_neighbour_and_keeps_one_check_of_those_that_passed():
    def record_of(plugin):
        registry.add(plugin)
        try:
            return runner.run(spec_of(plugin, mode="forward_backward"), ONCE)
        finally:
            registry.remove(plugin.name)

    record = record_of(wrong.plugin_of(wrong.right_only_at_head_size_64))
    assert record.status == "incorrect"
    assert record.timing is None
    assert record.reasons[0].startswith(
        "neighbour head_dim=32 n=129 batch=3 heads=3 padding=per_sequence: output: error 0.1, "
    )
    record = record_of(wrong.plugin_of(wrong.right))
    assert record.status == "ok"
    (summary,) = [check for check in record.checks if check.what.startswith("neighbour")]
    assert summary.is_extreme  # so that the gate, which compares whole tensors, leaves it out


def test_compiling_neighbours_is_no_compile_time_of_the_case(monkeypatch):
    def compiled(q, k, v, mask):
        clock["seconds"] += 1.0
        return wrong.right(q, k, v, mask)

    clock = {"seconds": 100.0}
    resets = []
    for module in (torch_private, runner):
        monkeypatch.setattr(module, "compile_seconds", lambda: clock["seconds"])

    def reset():
        resets.append(clock["seconds"])
        clock["seconds"] = 0.0

    monkeypatch.setattr(torch.compiler, "reset", reset)
    plugin = wrong.plugin_of(compiled)
    registry.add(plugin)
    try:
        record = runner.run(spec_of(plugin), ONCE)
    finally:
        registry.remove(plugin.name)
    assert len(resets) == 1  # after the first neighbour, which is the only one
    assert record.compile_seconds == clock["seconds"] > 0
    assert any(check.what.startswith("neighbours: 1 case, 9 left out") for check in record.checks)


@pytest.mark.parametrize("name", ["sdpa", "yoso_e", "bigbird"])
def test_shipped_attentions_pass(name):
    checks = neighbours.check(registry.get(name), spec_of(registry.get(name)))
    assert [check.what for check in checks] == ["neighbours: 10 cases, worst error / allowed"]
