"""Attentions that break the contract of a plugin in one way each, beside those of ``wrong_attentions``."""

import torch
from torch import nn
from wrong_attentions import Attention, _Cached, of, right

from harness.core.capabilities import Capabilities


def nan_at_long_n(q, k, v, mask):
    return right(q, k, v, mask) * (float("nan") if q.shape[2] > 2000 else 1.0)


def whole_blocks_alone(q, k, v, mask):
    out = right(q, k, v, mask)
    kept = torch.ones_like(out)
    kept[:, :, q.shape[2] // 8 * 8 :] = 0
    return out * kept


def rough_in_bfloat16(q, k, v, mask):
    return right(q, k, v, mask) * (1.1 if q.dtype == torch.bfloat16 else 1.0)


def padding_at_the_end_alone(q, k, v, mask):
    """Takes the number of real tokens for their positions."""
    if mask is not None:
        mask = torch.arange(mask.shape[1]) < mask.sum(1, keepdim=True)
    return right(q, k, v, mask)


def scales_where_a_mask_is(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if mask is None else 1.01)


def mean_over_the_batch(q, k, v, mask):
    return right(q, k, v, mask) + 0.01 * v.mean(0, keepdim=True)


def all_padded_empties_the_batch(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if mask is None or mask.any(1).all() else 0.0)


def grows_with_the_batch(q, k, v, mask):
    return right(q, k, v, mask) * q.shape[0] ** 0.01


def scales_the_callers_query(q, k, v, mask):
    q.data.mul_(q.shape[-1] ** -0.5)
    return right(q * q.shape[-1] ** 0.5, k, v, mask)


def takes_memory_for_contiguous(q, k, v, mask):
    b, h, n, d = q.shape
    return right(*(x.as_strided((b, h, n, d), (h * n * d, n * d, d, 1)) for x in (q, k, v)), mask)


def output_in_the_value(q, k, v, mask):
    v.data.copy_(right(q, k, v, mask))
    return v


def sets_torch(q, k, v, mask):
    torch.set_float32_matmul_precision("medium")
    return right(q, k, v, mask)


def breaks_the_graph(q, k, v, mask):
    return right(q, k, v, mask) * (1.0 if q.sum().item() != 0.5 else 2.0)


def as_many_keys_as_queries(q, k, v, mask):
    n = min(q.shape[2], k.shape[2])
    return right(q, k[:, :, :n], v[:, :, :n], None if mask is None else mask[:, :n])


def the_last_key_head_for_all(q, k, v, mask):
    heads = q.shape[1] // k.shape[1]
    return right(q, k.repeat_interleave(heads, 1), v.repeat_interleave(heads, 1) * (1.0 if heads == 1 else 1.1), mask)


class _Remembers(nn.Module):
    """A part of the output before is in the next one."""

    last = 0.0

    def forward(self, q, k, v, mask):
        out = right(q, k, v, mask) + 0.01 * self.last
        self.last = out.detach().clone()
        return out


class _KeysByAddress(_Cached):
    """Keeps what it made of the keys for as long as they lie at the same address."""

    def forward(self, q, k, v, mask):
        if self.kept.get("address") != k.data_ptr():
            self.kept = {"address": k.data_ptr(), "keys": k.detach().clone()}
        return right(q, self.kept["keys"] + (k - k.detach()), v, mask)


class _OneBuffer(nn.Module):
    """Without gradients every output is written to the same memory."""

    def forward(self, q, k, v, mask):
        out = right(q, k, v, mask)
        if torch.is_grad_enabled():
            return out
        if not hasattr(self, "buffer"):
            self.buffer = torch.empty_like(out)
        return self.buffer.copy_(out)


class _KeepsTheQuery(nn.Module):
    def forward(self, q, k, v, mask):
        self.kept = q.detach()
        return right(q, k, v, mask)


class _Declaring(Attention):
    """``function`` under capabilities of its own."""

    def __init__(self, function, **declared):
        super().__init__(function.__name__, of(function).make)
        self.capabilities = Capabilities(**declared)


class NoSummary(Attention):
    summary = ""


class TakesAnyKnob(Attention):
    def knobs(self, spec):
        return dict(spec.knobs)


class WholeOracle(Attention):
    def oracle(self, spec, q, k, v, key_padding_mask, rows):
        return right(q, k, v, key_padding_mask)


class ReasonsAsAString(Attention):
    def unsupported(self, spec):
        return ""


class OddDtypes(Attention):
    capabilities = Capabilities(dtypes=("float32", "bfloat16", "float16", "int8"))


class Boastful(Attention):
    """Declares less than ``unsupported`` admits."""

    capabilities = Capabilities(padding_mask=False, dtypes=("float32",), why={"padding_mask": "not written"})


NAN_AT_LONG_N = of(nan_at_long_n)
BREAKERS = {
    "test_awkward_lengths": [of(whole_blocks_alone)],
    "test_every_declared_dtype": [of(rough_in_bfloat16)],
    "test_a_long_sequence": [NAN_AT_LONG_N],
    "test_outputs_with_padding_equal_the_oracles": [of(padding_at_the_end_alone)],
    "test_a_mask_of_ones_is_no_mask": [of(scales_where_a_mask_is)],
    "test_a_sequence_of_padding_alone_harms_no_other": [of(all_padded_empties_the_batch)],
    "test_a_sequence_of_padding_alone_is_finite": [of(right)],
    "test_other_sequences_are_not_seen": [of(mean_over_the_batch)],
    "test_a_sequence_alone_gives_what_it_gives_in_a_batch": [of(grows_with_the_batch)],
    "test_inputs_are_left_as_they_were": [of(scales_the_callers_query)],
    "test_strides_do_not_matter": [of(takes_memory_for_contiguous)],
    "test_an_output_outlives_the_next_call": [of(output_in_the_value), Attention("one_buffer", _OneBuffer)],
    "test_calls_between_leave_nothing": [Attention("remembers", _Remembers)],
    "test_the_order_of_calls_does_not_matter": [Attention("remembers", _Remembers)],
    "test_inputs_changed_in_place_are_read_again": [Attention("keys_by_address", _KeysByAddress)],
    "test_no_tensor_of_a_call_is_kept": [Attention("keeps_the_query", _KeepsTheQuery)],
    "test_torchs_settings_are_left_as_they_were": [of(sets_torch)],
    "test_one_graph_without_a_break": [_Declaring(breaks_the_graph, compile=True)],
    "test_cross_attention": [_Declaring(as_many_keys_as_queries, cross_attention=True)],
    "test_grouped_key_heads": [_Declaring(the_last_key_head_for_all, gqa=True)],
    "test_a_declared_no_is_a_reason_for_the_case": [Boastful("boastful", of(right).make)],
    "test_a_dtype_that_is_not_declared_is_a_reason_for_the_case": [Boastful("boastful", of(right).make)],
    "test_it_says_what_it_is": [NoSummary("no_summary", of(right).make)],
    "test_it_answers_about_every_kind_of_case": [ReasonsAsAString("reasons_as_a_string", of(right).make)],
    "test_its_capabilities_name_what_torch_knows": [OddDtypes("odd_dtypes", of(right).make)],
    "test_it_refuses_a_knob_that_it_does_not_have": [TakesAnyKnob("takes_any_knob", of(right).make)],
    "test_its_oracle_gives_the_rows_that_are_asked_for": [WholeOracle("whole_oracle", of(right).make)],
}
"""Plugins by the check that is meant for them."""
