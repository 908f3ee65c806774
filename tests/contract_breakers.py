"""Plugins that break the plugin contract in one way each, in addition to those of ``wrong_attentions``."""

import torch
from torch import nn
from wrong_attentions import (
    CachedByShape,
    StubPlugin,
    plugin_of,
    right,
    right_only_at_head_size_64,
    uses_the_first_mask_for_all,
)

from harness.attentions.shared.softmax_oracle import softmax_attention
from harness.core.attention_shape import device_reasons, has_backward, has_padding
from harness.core.capabilities import Capabilities


def nan_at_long_n(q, k, v, mask):
    return right(q, k, v, mask) * (float("nan") if q.shape[2] > 2000 else 1.0)


def drops_incomplete_block(q, k, v, mask):
    out = right(q, k, v, mask)
    kept = torch.ones_like(out)
    kept[:, :, q.shape[2] // 8 * 8 :] = 0
    return out * kept


def inaccurate_in_bfloat16(q, k, v, mask):
    return right(q, k, v, mask) * (1.1 if q.dtype == torch.bfloat16 else 1.0)


def assumes_padding_at_the_end(q, k, v, mask):
    """Uses the number of real tokens as if they came first."""
    if mask is not None:
        mask = torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True)
    return right(q, k, v, mask)


def scales_with_a_mask(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if mask is None else 1.01)


def depends_on_the_padded_length(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if mask is None else 1.0 + 0.01 * (~mask).float().mean())


def overflows_beyond_the_range_of_float16(q, k, v, mask):
    return right(q, k, v, mask) + 0 * (q @ k.mT).half().amax().to(q)


def differs_when_compiled(q, k, v, mask):
    return right(q, k, v, mask) * (1.01 if torch.compiler.is_compiling() else 1.0)


def adds_mean_over_batch(q, k, v, mask):
    return right(q, k, v, mask) + 0.01 * v.mean(0, keepdim=True)


def fully_padded_sequence_zeroes_the_batch(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if mask is None or mask.any(1).all() else 0.0)


def grows_with_the_batch(q, k, v, mask):
    return right(q, k, v, mask) * q.shape[0] ** 0.01


def scales_q_in_place(q, k, v, mask):
    q.data.mul_(q.shape[-1] ** -0.5)
    return right(q * q.shape[-1] ** 0.5, k, v, mask)


def assumes_contiguous_inputs(q, k, v, mask):
    b, h, n, d = q.shape
    return right(*(x.as_strided((b, h, n, d), (h * n * d, n * d, d, 1)) for x in (q, k, v)), mask)


def writes_output_into_v(q, k, v, mask):
    v.data.copy_(right(q, k, v, mask))
    return v


def changes_matmul_precision(q, k, v, mask):
    torch.set_float32_matmul_precision("medium")
    return right(q, k, v, mask)


def breaks_the_graph(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if q.sum().item() != 0.5 else 2.0)


def cuts_to_the_shorter_length(q, k, v, mask):
    n = min(q.shape[2], k.shape[2])
    return right(q, k[:, :, :n], v[:, :, :n], None if mask is None else mask[:, :n])


def scales_grouped_value_heads(q, k, v, mask):
    heads = q.shape[1] // k.shape[1]
    return right(q, k.repeat_interleave(heads, 1), v.repeat_interleave(heads, 1) * (1.0 if heads == 1 else 1.1), mask)


class _AddsLastOutput(nn.Module):
    """Each output contains a part of the previous one."""

    last = 0.0

    def forward(self, q, k, v, mask):
        out = right(q, k, v, mask) + 0.01 * self.last
        self.last = out.detach().clone()
        return out


class _CachesKeysByAddress(CachedByShape):
    """Uses the last keys again while the new ones are at the same address."""

    def forward(self, q, k, v, mask):
        if self.kept.get("address") != k.data_ptr():
            self.kept = {"address": k.data_ptr(), "keys": k.detach().clone()}
        return right(q, self.kept["keys"] + (k - k.detach()), v, mask)


class _ReusesOutputBuffer(nn.Module):
    """Without gradients, every output is written to the same memory."""

    def forward(self, q, k, v, mask):
        out = right(q, k, v, mask)
        if torch.is_grad_enabled():
            return out
        if not hasattr(self, "buffer"):
            self.buffer = torch.empty_like(out)
        return self.buffer.copy_(out)


class _KeepsQ(nn.Module):
    def forward(self, q, k, v, mask):
        self.last_q = q.detach()
        return right(q, k, v, mask)


class _PluginDeclaring(StubPlugin):
    """A plugin whose module calls ``function`` and whose capabilities are ``declared``."""

    def __init__(self, function, **declared):
        super().__init__(function.__name__, plugin_of(function).make_module)
        self.capabilities = Capabilities(**declared)


class _NoSummary(StubPlugin):
    summary = ""


class _AcceptsAnyKnob(StubPlugin):
    def knobs(self, spec):
        return dict(spec.knobs)


class _OracleIgnoresRows(StubPlugin):
    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return right(q, k, v, key_padding_mask)


class _ReasonsAsString(StubPlugin):
    def unsupported(self, spec):
        return ""


class _UnknownDtype(StubPlugin):
    capabilities = Capabilities(dtypes=("float32", "bfloat16", "float16", "int8"))


class _SupportsUndeclaredCases(StubPlugin):
    """``unsupported`` gives no reason against cases that ``capabilities`` rule out."""

    capabilities = Capabilities(padding_mask=False, dtypes=("float32",), why={"padding_mask": "not implemented"})


class _WrongExactSoftmax(StubPlugin):
    """Declares exact softmax attention, but its oracle leaves the last key out."""

    exact_softmax = True

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        mask = None if key_padding_mask is None else key_padding_mask[:, :-1]
        return softmax_attention(q, k[:, :, :-1], v[:, :, :-1], mask, rows)


class RoughKernelError(StubPlugin):
    """Allows itself an error that hides most mistakes."""

    kernel_error = 0.45


class UnsupportedEverywhere(StubPlugin):
    """Refuses every case, so that nothing is ever compared."""

    capabilities = Capabilities(devices=("cpu",))

    def unsupported(self, spec):
        return ["not today"]


class SupportsOneLength(StubPlugin):
    """Refuses every case except the shortest ones, where it is right."""

    capabilities = Capabilities(devices=("cpu",))

    def unsupported(self, spec):
        return [] if spec.seq_len <= 16 else [f"n={spec.seq_len} is too long"]


class DeclaresWhatItRefuses(StubPlugin):
    """Declares gradients, padding and bfloat16, of which ``unsupported`` refuses every case."""

    def unsupported(self, spec):
        refused = {"gradients": has_backward(spec), "padding": has_padding(spec), "bfloat16": spec.dtype == "bfloat16"}
        return [*device_reasons(spec), *(f"{name}: not yet" for name, is_refused in refused.items() if is_refused)]


class NoDevices(StubPlugin):
    capabilities = Capabilities(devices=())


class EmptyReason(StubPlugin):
    def unsupported(self, spec):
        return [] if spec.seq_len < 1000 else [" "]


class OracleCallsModule(StubPlugin):
    """The oracle is the module itself, so that the module is always right."""

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return self.build(spec)(q, k, v, key_padding_mask)[:, :, rows]


class _RoundedOracleCallsModule(StubPlugin):
    """In the case's dtype, where the verifier measures how much error to allow, the oracle is the module itself."""

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        if q.dtype == torch.float64:
            return super().oracle(spec, q, k, v, key_padding_mask, rows)
        return self.build(spec).forward(q, k, v, key_padding_mask)[:, :, rows]


class OracleIn16Bits(StubPlugin):
    """The oracle rounds to bfloat16 whatever its inputs are, so that a rough module seems to be exact."""

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        rough = (x.bfloat16().to(x.dtype) for x in (q, k, v))
        return super().oracle(spec, *rough, key_padding_mask, rows)


class OracleRoughInFloat32(StubPlugin):
    """In the case's dtype, where the verifier measures how much error to allow, the oracle rounds to bfloat16."""

    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        exact = super().oracle(spec, q, k, v, key_padding_mask, rows)
        return exact if q.dtype == torch.float64 else exact.bfloat16().to(q.dtype) * 1.002


def right_plugin(plugin_class, name):
    """A ``plugin_class`` whose module is right."""
    return plugin_class(name, plugin_of(right).make_module)


class _UntrainedWeight(nn.Module):
    """Multiplies the output by a weight, one in the beginning, that gets no gradient."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, q, k, v, mask):
        return right(q, k, v, mask) * self.weight.detach()


BREAKERS = {
    "test_gradients_of_weights": [StubPlugin("untrained_weight", _UntrainedWeight)],
    "test_unaligned_lengths": [plugin_of(drops_incomplete_block)],
    "test_neighbouring_sizes": [*map(plugin_of, (right_only_at_head_size_64, uses_the_first_mask_for_all))],
    "test_every_declared_dtype": [plugin_of(inaccurate_in_bfloat16)],
    "test_long_sequence": [plugin_of(nan_at_long_n)],
    "test_output_with_padding_matches_oracle": [plugin_of(assumes_padding_at_the_end)],
    "test_real_tokens_get_what_their_sequence_gets_alone": [plugin_of(depends_on_the_padded_length)],
    "test_any_scale": [plugin_of(overflows_beyond_the_range_of_float16)],
    "test_default_backend_gives_the_same_results": [_PluginDeclaring(differs_when_compiled, compile=True)],
    "test_all_true_mask_equals_no_mask": [plugin_of(scales_with_a_mask)],
    "test_fully_padded_sequence_does_not_change_others": [plugin_of(fully_padded_sequence_zeroes_the_batch)],
    "test_fully_padded_sequence_gives_finite_output": [plugin_of(right)],
    "test_output_does_not_depend_on_other_sequences": [plugin_of(adds_mean_over_batch)],
    "test_output_does_not_depend_on_batch_size": [plugin_of(grows_with_the_batch)],
    "test_inputs_are_not_modified": [plugin_of(scales_q_in_place)],
    "test_strides_do_not_change_results": [plugin_of(assumes_contiguous_inputs)],
    "test_output_has_its_own_memory": [
        plugin_of(writes_output_into_v),
        StubPlugin("reuses_output_buffer", _ReusesOutputBuffer),
    ],
    "test_earlier_calls_do_not_change_output": [StubPlugin("adds_last_output", _AddsLastOutput)],
    "test_order_of_calls_does_not_change_output": [StubPlugin("adds_last_output", _AddsLastOutput)],
    "test_inputs_changed_in_place_are_read_again": [StubPlugin("caches_keys_by_address", _CachesKeysByAddress)],
    "test_no_tensor_is_kept_after_a_call": [StubPlugin("keeps_q", _KeepsQ)],
    "test_torch_settings_are_not_changed": [plugin_of(changes_matmul_precision)],
    "test_compiles_without_graph_breaks": [_PluginDeclaring(breaks_the_graph, compile=True)],
    "test_cross_attention": [_PluginDeclaring(cuts_to_the_shorter_length, cross_attention=True)],
    "test_grouped_query_attention": [_PluginDeclaring(scales_grouped_value_heads, gqa=True)],
    "test_undeclared_ability_is_unsupported": [right_plugin(_SupportsUndeclaredCases, "supports_undeclared_cases")],
    "test_undeclared_dtype_is_unsupported": [right_plugin(_SupportsUndeclaredCases, "supports_undeclared_cases")],
    "test_metadata_is_complete": [right_plugin(_NoSummary, "no_summary")],
    "test_plugin_answers_for_every_spec_kind": [right_plugin(_ReasonsAsString, "reasons_as_string")],
    "test_declared_devices_and_dtypes_exist": [right_plugin(_UnknownDtype, "unknown_dtype")],
    "test_oracle_rounds_little": [
        right_plugin(OracleIn16Bits, "oracle_in_16_bits"),
        right_plugin(OracleRoughInFloat32, "oracle_rough_in_float32"),
    ],
    "test_kernel_error_is_small": [right_plugin(RoughKernelError, "rough_kernel_error")],
    "test_unsupported_gives_declared_reasons": [
        right_plugin(UnsupportedEverywhere, "unsupported_everywhere"),
        right_plugin(SupportsOneLength, "supports_one_length"),
        right_plugin(NoDevices, "no_devices"),
        right_plugin(EmptyReason, "empty_reason"),
    ],
    "test_oracle_does_not_call_module": [
        right_plugin(OracleCallsModule, "oracle_calls_module"),
        right_plugin(_RoundedOracleCallsModule, "rounded_oracle_calls_module"),
    ],
    "test_unknown_knob_is_refused": [right_plugin(_AcceptsAnyKnob, "accepts_any_knob")],
    "test_oracle_returns_requested_rows": [right_plugin(_OracleIgnoresRows, "oracle_ignores_rows")],
    "test_exact_softmax_has_softmax_oracle": [right_plugin(_WrongExactSoftmax, "wrong_exact_softmax")],
}
"""Plugins by the conformance test that must fail for them."""
