"""YOSO's operators, ``torch.ops.yoso.*``: schemas, argument checks, portable kernels, gradients and transforms.

Importing any module of this package registers the operators completely: schemas, plain-torch and fake kernels,
gradients, and the rules for ``torch.vmap`` and ``torch.autocast``.
"""

from yoso.ops import autocast, autograd, vmap  # noqa: F401  imported because they register
from yoso.ops.operators import expectation, fast_hash, lsh_attention, lsh_cumulation, rescored_attention, unit_rows

__all__ = ["expectation", "fast_hash", "lsh_attention", "lsh_cumulation", "rescored_attention", "unit_rows"]
