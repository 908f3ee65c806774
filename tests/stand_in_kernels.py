"""What the CUDA kernels of YOSO's authors compute, as dense sums on any device."""

from types import SimpleNamespace

import torch


def weights(query_mask, query_code, key_mask, key_code):
    """Float32 ``[batch, query, key]``: in how many of the hashes they share a bucket."""
    equal = (query_code[:, :, None] == key_code[:, None]).float().mean(-1)
    return equal * query_mask[:, :, None] * key_mask[:, None]


def fast_hash(query_mask, query, key_mask, key, num_hash, hash_code_len, use_cuda, version):
    directions = torch.randn(len(query), query.shape[2], num_hash * hash_code_len)
    powers = 2 ** torch.arange(hash_code_len)
    bits = [(x @ directions > 0).unflatten(2, (num_hash, hash_code_len)) for x in (query, key)]
    return [(x * powers).sum(-1).int() for x in bits]


def lsh_cumulation(query_mask, query_code, key_mask, key_code, value, capacity, use_cuda, version):
    assert key_code.max() < capacity
    return weights(query_mask, query_code, key_mask, key_code) @ value


def lsh_weighted_cumulation(
    query_mask, query_code, query_weight, key_mask, key_code, key_weight, value, capacity, use_cuda, version
):
    return (weights(query_mask, query_code, key_mask, key_code) * (query_weight @ key_weight.mT)) @ value


def kernels(**changed):
    known = {"fast_hash": fast_hash, "lsh_cumulation": lsh_cumulation}
    return SimpleNamespace(**known | {"lsh_weighted_cumulation": lsh_weighted_cumulation} | changed)
