"""What is observed of a call: each fact is reported if it holds, and not reported otherwise."""

import pytest
import torch
import wrong_attentions as wrong
from torch import nn
from torch.nn.functional import dropout, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from harness.cases import runner
from harness.core import registry
from harness.core.spec import Effort, ModelSpec, OperationSpec
from harness.measure.conditions import observe

EFFORT = Effort(min_samples=1, max_samples=1, seconds=0.0, warmup_calls=1, warmup_seconds=0.0)


def conditions_of(attend, module=None, dtype=torch.float32, **fields):
    """The conditions of one call of ``attend(q, k, v)`` and its backward pass."""
    spec = OperationSpec(**{"attention": "x", "seq_len": 48, "heads": 2, "head_dim": 8, "batch": 2} | fields)
    q, k, v = (torch.randn(2, 2, 48, 8, dtype=dtype).requires_grad_() for _ in range(3))

    def call():
        out = attend(q, k, v)
        # As the harness does. A sum's gradient would be expanded, and .backward() would copy gradients into the
        # layout of the inputs.
        torch.autograd.grad(out, (q, k, v), torch.ones_like(out))

    return observe(call, module or nn.Identity(), spec)


def attend(q, k, v):
    return scaled_dot_product_attention(q, k, v)


def test_a_plain_attention_has_default_conditions():
    observed = conditions_of(attend)
    assert observed.model_dump(exclude_none=True, exclude={"operators"}) == {
        "parameters": 0,
        "compiled": False,
        "float32_matmul": "highest",
        "dtypes": ["float32"],
        "dropout": False,
        "recomputes": False,
        "layout_copies": 0,
        "all_pairs": False,
    }


@pytest.mark.parametrize(
    "attend_with_dropout",
    [
        lambda q, k, v: scaled_dot_product_attention(q, k, v, dropout_p=0.1),
        lambda q, k, v: dropout(attend(q, k, v), 0.1),
    ],
)
def test_dropout_is_reported(attend_with_dropout):
    assert conditions_of(attend_with_dropout).dropout
    assert not conditions_of(lambda q, k, v: dropout(attend(q, k, v), 0.1, training=False)).dropout


def test_checkpointing_is_reported():
    assert conditions_of(lambda *qkv: checkpoint(attend, *qkv, use_reentrant=False)).recomputes


def test_copies_into_another_layout_are_counted_and_copies_in_the_same_layout_are_not():
    def copying(q, k, v):
        q, k = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k))
        return attend(q, k, v.clone())

    with torch.no_grad():
        spec = OperationSpec(attention="x", seq_len=48, heads=2, head_dim=8, batch=2)
        q = torch.randn(2, 2, 48, 8)
        assert observe(lambda: copying(q, q, q), nn.Identity(), spec).layout_copies == 2


def test_a_tensor_of_all_pairs_is_reported():
    assert conditions_of(lambda q, k, v: (q @ k.mT).softmax(-1) @ v).all_pairs
    assert conditions_of(lambda q, k, v: torch.cat([(q[:, :, :24] @ k.mT) @ v, q[:, :, 24:]], 2)).all_pairs is False


def test_operators_are_counted_forward_and_backward_and_views_are_not():
    plain = conditions_of(attend).operators
    assert plain > 2
    assert conditions_of(lambda q, k, v: attend(q, k, v * 2)).operators == plain + 2
    assert conditions_of(lambda q, k, v: attend(q, k, v.transpose(1, 2).transpose(1, 2))).operators == plain


def scaled_dot_product_attention_keeps_float32():
    q, k, v = (torch.randn(2, 2, 48, 8, dtype=torch.bfloat16) for _ in range(3))
    _, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    return sums.dtype == torch.float32


def test_another_dtype_and_tf32_are_reported():
    def half(q, k, v):
        return attend(*(x.bfloat16() for x in (q, k, v))).float()

    def reduced(q, k, v):
        torch.set_float32_matmul_precision("high")
        try:
            return attend(q, k, v)
        finally:
            torch.set_float32_matmul_precision("highest")

    assert conditions_of(half).dtypes == ["bfloat16", "float32"]
    # Fused attention keeps one float32 sum per row in every compute dtype; that does not count.
    assert scaled_dot_product_attention_keeps_float32()
    assert conditions_of(attend, dtype=torch.bfloat16).dtypes == ["bfloat16"]
    assert conditions_of(reduced).float32_matmul == "high"


@pytest.mark.parametrize("how", ["torch.compile(module)", "module.compile", "a compiled function in it"])
def test_a_compiled_module_is_reported_and_not_observed(how):
    module = nn.Linear(8, 8)
    if how == "torch.compile(module)":
        module = nn.Sequential(torch.compile(module, backend="eager"))
    elif how == "module.compile":
        module.compile(backend="eager")
    else:
        module.attend = torch.compile(attend, backend="eager")
    observed = conditions_of(attend, module)
    assert observed.compiled
    assert (observed.all_pairs, observed.dropout, observed.layout_copies, observed.operators) == (None,) * 4
    assert "compiled" in observed.unseen
    assert observed.parameters == 72


def test_a_call_that_fails_under_a_dispatch_mode_has_the_reason():
    def refusing(q, k, v):
        if torch.utils._python_dispatch._get_current_dispatch_mode() is not None:
            raise RuntimeError("not under a mode")
        return attend(q, k, v)

    observed = conditions_of(refusing)
    assert observed.unseen == "RuntimeError: not under a mode"
    assert observed.dropout is None


@pytest.mark.parametrize("name", registry.names())
def test_every_attention_of_the_harness_can_be_observed(name):
    spec = OperationSpec(attention=name, seq_len=320, heads=2, mode="forward", padding=0.1)
    plugin = registry.get(name)
    if plugin.unsupported(spec):
        spec = spec.model_copy(update={"padding": 0.0})
    if plugin.unsupported(spec):
        pytest.skip(plugin.unsupported(spec)[0])
    module = plugin.build(spec)
    qkv = [torch.randn(1, 2, 320, 64) for _ in range(3)]
    mask = (torch.arange(320) < 288)[None] if spec.padding else None
    with torch.no_grad():
        observed = observe(lambda: module(*qkv, mask), module, spec)
    assert observed.compiled == (name == "flex")
    # flex_eager compiles a wrapper of its own, which cannot be observed.
    assert (observed.unseen is not None) == (name in {"flex", "flex_eager"})
    assert not observed.unseen or "/" not in observed.unseen
    if not observed.unseen:
        assert observed.all_pairs == (name in {"softmax", "sdpa_math", "transformers_yoso_e"})
        assert observed.dtypes == ["float32"]
        assert (observed.dropout, observed.recomputes) == (False, False)


def test_an_attention_that_cannot_be_observed_still_runs_afterwards():
    """flex_eager compiles a wrapper in its call. Dynamo refuses that under a mode, and then in every later call."""
    module = registry.get("flex_eager").build(OperationSpec(attention="flex_eager", seq_len=33))
    qkv = [torch.randn(1, 2, 33, 64) for _ in range(3)]
    with torch.no_grad():
        before = module(*qkv, None)
        assert observe(lambda: module(*qkv, None), module, OperationSpec(attention="flex_eager", seq_len=33)).unseen
        assert torch.equal(module(*qkv, None), before)


def test_all_pairs_is_not_reported_for_a_short_sequence():
    assert conditions_of(lambda q, k, v: (q @ k.mT).softmax(-1) @ v, head_dim=12).all_pairs is None


def test_a_record_has_its_conditions():
    record = runner.run(OperationSpec(attention="softmax", seq_len=320, heads=2), EFFORT)
    assert record.conditions.all_pairs
    record = runner.run(OperationSpec(attention="linformer", seq_len=64, heads=2), EFFORT)
    assert record.conditions.parameters == 2 * 2 * 64 * 64


def test_a_models_record_has_its_conditions():
    sizes = {"seq_len": 32, "hidden_size": 32, "heads": 2, "layers": 1, "vocab_size": 50}
    record = runner.run(ModelSpec(attention="sdpa", mode="training_step", **sizes), EFFORT)
    assert record.status == "ok", record.reasons
    assert record.conditions.parameters == record.parameters
    assert (record.conditions.dropout, record.conditions.recomputes) == (False, False)
    assert (record.conditions.layout_copies, record.conditions.all_pairs) == (None, None)


def test_masked_sparsity_of_a_plugin_becomes_a_fairness_finding():
    from harness.report.questions import fairness

    class Banded(type(wrong.RIGHT)):
        """Declares a tenth of the matrix products, but computes all of them and masks."""

        def cost(self, spec):
            return {"matmul float32": 0.1 * 4 * spec.batch * spec.heads * spec.seq_len**2 * spec.head_dim}

    plugin = Banded("banded", wrong.RIGHT.make_module)
    registry.add(plugin)
    try:
        spec = OperationSpec(attention="banded", seq_len=320, heads=2)
        records = [runner.run(spec.model_copy(update={"attention": name}), EFFORT) for name in ("banded", "softmax")]
    finally:
        registry.remove("banded")
    assert [(finding.name, finding.attention, finding.cases) for finding in fairness.findings(records)] == [
        ("dense-simulated sparsity", "banded", (records[0].case_id,))
    ]
