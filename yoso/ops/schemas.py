"""The schemas of YOSO's operators, ``torch.ops.yoso.*``, and their registration.

The schemas are defined here and not in C++, so that the operators exist even where no native kernel can be compiled.

Shapes, for B sequences, H heads and m hashes of tau bits: query ``[B, H, N_q, D]``, key ``[B, H, N_k, D]``, value
``[B, H, N_k, D_v]``, codes uint16 ``[B, H, m, N_q]`` or ``[B, H, m, N_k]``, masks bool ``[B, N_q]`` or ``[B, N_k]``
(True: a real token) or None, shared_key_ids int64 ``[B, H, c]``, floor ``[B, H]`` in the dtype of the sums.

The attentions have ``unrounded``: the output keeps the dtype of its sums, float32 for 16-bit inputs, so that the sums
can be scaled to length 1 before they are rounded. In float16 they would overflow otherwise.
"""

import torch

_MASKS_AND_LENGTH = "Tensor? query_mask, Tensor? key_mask, int hash_code_len"
_CODES = "Tensor query_codes, Tensor key_codes"
_QKV = "Tensor query, Tensor key, Tensor value"
_RESCORED = f"{_CODES}, Tensor shared_key_ids, {_MASKS_AND_LENGTH}, int keys_per_query, float floor, bool rest"

SCHEMAS = {
    "fast_hash": "(Tensor x, Tensor planes, int num_hash, int hash_code_len, str hash_family) -> Tensor",
    "lsh_cumulation": f"({_CODES}, Tensor value, {_MASKS_AND_LENGTH}, bool unrounded=False) -> Tensor",
    "lsh_attention": (f"({_QKV}, {_CODES}, {_MASKS_AND_LENGTH}, bool lsh_backward, bool unrounded=False) -> Tensor"),
    "lsh_attention_backward": f"(Tensor grad, {_QKV}, {_CODES}, {_MASKS_AND_LENGTH}) -> (Tensor, Tensor, Tensor)",
    "rescored_attention": f"({_QKV}, {_RESCORED}, bool lsh_backward, bool unrounded=False) -> Tensor",
    "rescored_attention_backward": f"(Tensor grad, {_QKV}, {_RESCORED}) -> (Tensor, Tensor, Tensor)",
    "expectation": f"({_QKV}, {_MASKS_AND_LENGTH}, bool exact_gradient=False, bool unrounded=False) -> Tensor",
    "expectation_backward": (
        f"(Tensor grad, {_QKV}, {_MASKS_AND_LENGTH}, bool exact_gradient=False) -> (Tensor, Tensor, Tensor)"
    ),
    "unit_rows": "(Tensor x, ScalarType? dtype=None) -> Tensor",
    "unit_rows_": "(Tensor(a!) x) -> ()",
    "unit_rows_backward": "(Tensor grad, Tensor x) -> Tensor",
    "floored_unit_rows": "(Tensor x, Tensor floor, ScalarType? dtype=None) -> Tensor",
    "floored_unit_rows_backward": "(Tensor grad, Tensor x, Tensor floor) -> (Tensor, Tensor)",
}

for _operator, _signature in SCHEMAS.items():
    torch.library.define(f"yoso::{_operator}", _signature)
