"""The least that an attention must do, by the ceiling that limits it: the floor under its time.

A cost is a mapping from the name of a ceiling (see ``harness.core.record.Ceiling``) to an amount: bytes through memory
(``copy``), bytes that a gather reads from the cache (``cache read``), operations of the matrix units (``matmul`` and a
dtype) and of the float32 vector units (``vector float32``). Inputs are read once, outputs written once; what a kernel
does on top is what the fraction of its bound shows.
"""

from math import log2

from harness.core.plugin import torch_dtype
from harness.core.spec import OperationSpec

PAIR_OPERATIONS = 22
"""float32 operations that a pair's collision probability takes: a polynomial of the arc cosine and its power."""


def softmax(spec: OperationSpec) -> dict[str, float]:
    """Two matrix products forward; five backward, of which one makes the scores again."""
    return {f"matmul {spec.dtype}": 2 * _pairs(spec) * spec.head_dim * _products(spec), "copy": _tensor_bytes(spec)}


def features(spec: OperationSpec, num_features: int, projections: int = 0) -> dict[str, float]:
    """``phi(q) (phi(k)^T v)``: two products of n x num_features x head_dim forward and four backward.

    Args:
        spec: the case.
        num_features: the width of phi.
        projections: products of the same size that make the features, whose gradient is one product each.
    """
    products = 2 + projections + (4 + projections if _backward(spec) else 0)
    vectors = float(spec.batch * spec.heads) * spec.seq_len
    operations = 2 * vectors * num_features * spec.head_dim * products
    return {f"matmul {spec.dtype}": operations, "copy": _tensor_bytes(spec)}


def yoso_expectation(spec: OperationSpec) -> dict[str, float]:
    """The products of ``softmax``, and the collision probability of every pair, once a pass."""
    return softmax(spec) | {"vector float32": PAIR_OPERATIONS * _pairs(spec) * (2 if _backward(spec) else 1)}


def yoso_sampling(
    spec: OperationSpec, num_hash: int, hash_code_len: int, rotations: float, projections: float
) -> dict[str, float]:
    """Hashing, and the gathers of the cumulation.

    Forward gathers a value row a colliding pair, or, where buckets have more than two keys, every row once a hash to
    sum the bucket and that sum once a query. Backward does so for grad_v, and for grad_q and grad_k reads the four rows
    of the members of every bucket that has any. Its arithmetic is three products of length d a colliding pair, of which
    random inputs have ``n^2 / 2^tau`` a hash, or four of d^2 a member of a bucket, through the bucket's moment: the
    less of the two, and both are matrix products.

    Args:
        spec: the case.
        num_hash: m.
        hash_code_len: tau.
        rotations: Hadamard rotations a vector.
        projections: dense projections a vector, on the matrix units.
    """
    vectors = spec.batch * spec.heads * spec.seq_len
    dim = 1 << (spec.head_dim - 1).bit_length()
    row = spec.head_dim * torch_dtype(spec.dtype).itemsize
    load = spec.seq_len / 2**hash_code_len  # keys a bucket
    gathered = vectors * num_hash * min(2, load)
    hashing = 2 * vectors * rotations * dim * (log2(dim) + 1)
    vector = hashing + gathered * spec.head_dim
    matrix = 2 * 2 * vectors * projections * spec.head_dim
    rows = gathered
    if _backward(spec):
        rows += gathered + 4 * vectors * num_hash * min(1, load)
        vector += gathered * spec.head_dim
        matrix += vectors * num_hash * min(6 * spec.head_dim * load, 8 * spec.head_dim**2)
    codes = 2 * vectors * num_hash * 2  # queries' and keys', two bytes each
    cost = {
        "vector float32": vector,
        "cache read": rows * row,
        "copy": _tensor_bytes(spec) + codes * (3 if _backward(spec) else 2),
    }
    if matrix:
        cost[f"matmul {spec.dtype}"] = matrix
    return cost


def _backward(spec: OperationSpec) -> bool:
    return spec.mode == "forward_backward"


def _products(spec: OperationSpec) -> int:
    return 7 if _backward(spec) else 2


def _pairs(spec: OperationSpec) -> float:
    return float(spec.batch * spec.heads) * spec.seq_len**2


def _tensor_bytes(spec: OperationSpec) -> float:
    """Forward reads q, k, v and writes the output; backward reads these and its gradient, and writes three."""
    size = spec.batch * spec.heads * spec.seq_len * spec.head_dim * torch_dtype(spec.dtype).itemsize
    return float(size) * (12 if _backward(spec) else 4)
