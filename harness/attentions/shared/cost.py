"""The least work of an attention's call, by the ceiling that limits it: a lower bound of its time.

A cost is a mapping from the name of a ceiling (see ``harness.core.record.Ceiling``) to an amount: bytes through memory
(``copy``), bytes that a gather reads from the cache (``cache read``), operations of the matrix units (``matmul`` and a
dtype) and of the float32 vector units (``vector float32``). Inputs are read once and outputs are written once. A kernel
that does more work than this reaches a smaller fraction of the bound.
"""

from math import log2

from harness.core.plugin import torch_dtype
from harness.core.spec import OperationSpec

PAIR_OPERATIONS = 22
"""float32 operations per pair for the collision probability: a polynomial for the arc cosine, and its power."""


def softmax(spec: OperationSpec) -> dict[str, float]:
    """Two matrix products forward and five backward, one of which recomputes the scores."""
    return {f"matmul {spec.dtype}": 2 * _pairs(spec) * spec.head_dim * _products(spec), "copy": _tensor_bytes(spec)}


def features(spec: OperationSpec, num_features: int, projections: int = 0) -> dict[str, float]:
    """``phi(q) (phi(k)^T v)``: two products of n x num_features x head_dim forward and four backward.

    Args:
        spec: the case.
        num_features: number of features of phi.
        projections: matrix products of the same size that compute the features; each has one product in backward.
    """
    products = 2 + projections + (4 + projections if _backward(spec) else 0)
    vectors = float(spec.batch * spec.heads) * spec.seq_len
    operations = 2 * vectors * num_features * spec.head_dim * products
    return {f"matmul {spec.dtype}": operations, "copy": _tensor_bytes(spec)}


def yoso_expectation(spec: OperationSpec) -> dict[str, float]:
    """The matrix products of ``softmax``, and every pair's collision probability once per pass."""
    return softmax(spec) | {"vector float32": PAIR_OPERATIONS * _pairs(spec) * (2 if _backward(spec) else 1)}


def yoso_sampling(
    spec: OperationSpec, num_hash: int, hash_code_len: int, rotations: float, projections: float
) -> dict[str, float]:
    """Hashing, and the gathers that sum the values of colliding keys.

    Forward gathers one value row per colliding pair. Where buckets have more than two keys, it instead reads every
    value row once per hash to sum the buckets, and one bucket sum per query. Backward does the same for grad_v. For
    grad_q and grad_k it reads four rows of every member of each bucket that is not empty. Its arithmetic is three
    products of length d per colliding pair, of which random inputs have ``n^2 / 2^tau`` per hash, or four products of
    d^2 per member of a bucket through the bucket's moment matrix, whichever is less. Both are matrix products.

    Args:
        spec: the case.
        num_hash: m, the number of hashes.
        hash_code_len: tau, the number of bits per hash.
        rotations: Hadamard rotations per vector.
        projections: dense projections per vector, on the matrix units.
    """
    vectors = spec.batch * spec.heads * spec.seq_len
    dim = 1 << (spec.head_dim - 1).bit_length()
    row_bytes = spec.head_dim * torch_dtype(spec.dtype).itemsize
    load = spec.seq_len / 2**hash_code_len  # keys per bucket
    gathered = vectors * num_hash * min(2, load)
    hashing = 2 * vectors * rotations * dim * (log2(dim) + 1)
    vector_operations = hashing + gathered * spec.head_dim
    matrix_operations = 2 * 2 * vectors * projections * spec.head_dim
    rows_read = gathered
    if _backward(spec):
        rows_read += gathered + 4 * vectors * num_hash * min(1, load)
        vector_operations += gathered * spec.head_dim
        matrix_operations += vectors * num_hash * min(6 * spec.head_dim * load, 8 * spec.head_dim**2)
    code_bytes = 2 * vectors * num_hash * 2  # of queries and keys, two bytes per code
    cost = {
        "vector float32": vector_operations,
        "cache read": rows_read * row_bytes,
        "copy": _tensor_bytes(spec) + code_bytes * (3 if _backward(spec) else 2),
    }
    if matrix_operations:
        cost[f"matmul {spec.dtype}"] = matrix_operations
    return cost


def yoso_rescored(
    spec: OperationSpec, pairs: float, num_hash: int, rotations: float, projections: float
) -> dict[str, float]:
    """Hashing, and the exact weight of the pairs that are found.

    Forward has two products of length d per pair, and reads the pair's key and value; backward has five more and reads
    both again. Each pass computes the collision probability.

    Args:
        spec: the case.
        pairs: pairs per query, of its buckets and of the keys that all queries share.
        num_hash: m, the number of hashes.
        rotations: Hadamard rotations per vector.
        projections: dense projections per vector, on the matrix units.
    """
    vectors = spec.batch * spec.heads * spec.seq_len
    dim = 1 << (spec.head_dim - 1).bit_length()
    hashing = 2 * vectors * rotations * dim * (log2(dim) + 1)
    passes = 2 if _backward(spec) else 1
    arithmetic = vectors * pairs * (PAIR_OPERATIONS * passes + 2 * spec.head_dim * _products(spec))
    cost = {
        "vector float32": hashing + arithmetic,
        "cache read": vectors * pairs * 2 * passes * spec.head_dim * torch_dtype(spec.dtype).itemsize,
        "copy": _tensor_bytes(spec) + 2 * vectors * num_hash * 2 * (passes + 1),
    }
    if projections:
        cost[f"matmul {spec.dtype}"] = 2 * 2 * vectors * projections * spec.head_dim
    return cost


def _backward(spec: OperationSpec) -> bool:
    return spec.mode == "forward_backward"


def _products(spec: OperationSpec) -> int:
    return 7 if _backward(spec) else 2


def _pairs(spec: OperationSpec) -> float:
    return float(spec.batch * spec.heads) * spec.seq_len**2


def _tensor_bytes(spec: OperationSpec) -> float:
    """Forward reads q, k and v and writes the output; backward reads these and the upstream gradient, and writes 3."""
    size = spec.batch * spec.heads * spec.seq_len * spec.head_dim * torch_dtype(spec.dtype).itemsize
    return float(size) * (12 if _backward(spec) else 4)
