"""YOSO's operators, ``torch.ops.yoso.*``: schemas, argument checks, portable kernels, gradients and transforms.

Importing any part of it registers the operators whole: their schemas and plain-torch kernels, their gradients, and
their rules under ``torch.vmap`` and ``torch.autocast``.
"""

from yoso.ops import autograd, operators, vmap

__all__ = ["autograd", "operators", "vmap"]
