"""Arguments for lsh_cumulation and lsh_attention_backward, and their expected results in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor

from yoso.ops import reference

TOLERANCE = {torch.float32: 2e-6, torch.bfloat16: 5e-3, torch.float16: 7e-4}
F32, BF16, F16 = TOLERANCE


@dataclass
class Case:
    query: Tensor
    key: Tensor
    value: Tensor
    grad: Tensor
    query_codes: Tensor
    key_codes: Tensor
    query_mask: Tensor | None
    key_mask: Tensor | None
    hash_code_len: int

    def forward(self, shim):
        codes = self.query_codes, self.key_codes
        return shim.lsh_cumulation(*codes, self.value, self.query_mask, self.key_mask, self.hash_code_len)

    def backward(self, shim):
        args = self.grad, self.query, self.key, self.value, self.query_codes, self.key_codes
        return shim.lsh_attention_backward(*args, self.query_mask, self.key_mask, self.hash_code_len)


def make(
    num_query,
    num_key,
    num_hash,
    hash_code_len,
    dim=64,
    value_dim=64,
    dtype=F32,
    *,
    buckets=None,
    masks=True,
    heads=(1, 2),
):
    """Random rows, with codes drawn from ``buckets`` different codes; by default few tokens share a bucket."""
    torch.manual_seed(num_query + num_key + num_hash + hash_code_len + dim)
    pool = torch.randperm(1 << hash_code_len)[: buckets or max(1, num_key // 2)]
    lengths = num_query, num_key
    codes = [pool[torch.randint(len(pool), (*heads, num_hash, n))].to(torch.uint16) for n in lengths]
    query, key = (torch.randn(*heads, n, dim).to(dtype) for n in lengths)
    value, grad = (torch.randn(*heads, n, value_dim).to(dtype) for n in (num_key, num_query))
    token_masks = [torch.rand(heads[0], n) > 0.2 if masks else None for n in lengths]
    return Case(query, key, value, grad, *codes, *token_masks, hash_code_len)


def collision_weights(case):
    in_range = case.key_codes.long() >> case.hash_code_len == 0
    equal = case.query_codes.long()[..., :, None] == case.key_codes.long()[..., None, :]
    fraction = (equal & in_range[..., None, :]).double().mean(2)
    return reference.masked(fraction, case.query_mask, case.key_mask)


def oracle(case):
    """The output, and the gradients of query, key and value, in float64."""
    leaves = [x.double().requires_grad_() for x in (case.query, case.key, case.value)]
    cosine = reference.unit(leaves[0]) @ reference.unit(leaves[1]).transpose(-1, -2)
    weights = reference.with_surrogate_gradient(collision_weights(case), cosine, case.hash_code_len)
    out = reference.masked(weights, case.query_mask, case.key_mask) @ leaves[2]
    return out.detach(), torch.autograd.grad(out, leaves, case.grad.double())


def assert_close(actual, expected, dtype, roundings=1):
    assert actual.dtype == dtype
    assert actual.is_contiguous()
    scale = max(expected.abs().max().item(), 1e-6)
    torch.testing.assert_close(actual.double(), expected, atol=roundings * TOLERANCE[dtype] * scale, rtol=0)


def check(shim, case):
    out, gradients = oracle(case)
    dtype = case.value.dtype
    assert_close(case.forward(shim), out, dtype)
    # Unit rows, and the gradient with respect to them, are rounded to the dtype in between.
    for actual, expected, roundings in zip(case.backward(shim), gradients, (3, 3, 1), strict=True):
        assert_close(actual, expected, dtype, roundings)
