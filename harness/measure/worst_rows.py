"""Errors of single rows and heads, and the shift that all rows of a head share.

One norm over a whole tensor hides an error in a small part of it: one wrong row among 1,000, or one lost key among
4,096 in bfloat16. The functions here judge each head and each row (one position of one head) alone and return the
worst.

The allowed error comes from the oracle in the case's own dtype, in the same head: a multiple of its largest error, plus
the floor of the whole tensor and ``FLOAT32_ROUNDINGS``. It is larger than for a whole tensor, because the worst of many
rows varies, and much smaller than the error of a wrong row or head, which is near 1.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROUNDING_FACTOR = 2.0
"""Allowed error of a kernel, in errors of the oracle in the same dtype."""
HEAD_FACTOR = 4.0
"""The same for the worst head of a tensor."""
ROW_FACTOR = 8.0
"""The same for the worst row of a head, whose few roundings do not average out; it multiplies the floor, too."""
ILL_CONDITIONED_FACTOR = 4.0
"""Limit of the allowed error of a row, in errors of the oracle's worst row in its head, where that exceeds ``limit``.
Nystromformer inverts a matrix, and a nearly singular one enlarges the rounding of bfloat16 until the gradient of a key
is off by a quarter in the oracle and by a half in the module, although both are right."""
FLOAT32_ROUNDINGS = 64
"""Error of a row or head that is always allowed, in machine epsilons of float32, in which kernels add in another order
than the oracle."""
LEAST_SCALE = 0.1
"""A row or head whose true norm is below this fraction of the root mean square over the tensor is judged relative to
that fraction. The gradients of a head whose weights are saturated cancel, and what remains is rounding."""
FEW_ROWS = 16
"""With at most this many rows the fraction is 1, because any row or head may cancel by chance."""
ZERO = 1e-10
"""A norm below this fraction of the largest norm is zero, apart from rounding in float64."""
LOST_KEY_SHARE = 0.15
"""Allowed shift that all rows of a head share, times the square root of the number of keys. Softmax attention without
one of n keys, for standard normal inputs, shifts its output by 1 / sqrt(e n) = 0.61 / sqrt(n) of its norm."""


@dataclass(frozen=True)
class Worst:
    """The largest error relative to its allowed error, and the row or head it is in. The error may be NaN."""

    error: float
    allowed: float
    where: str


@dataclass(frozen=True)
class Comparison:
    """A measured tensor, the truth, and the oracle in the case's dtype, all float64 ``[B, H, R, D]`` on one device.

    ``rows`` are the positions of the R rows in the sequence. ``floor`` is an error that is always allowed and ``limit``
    the largest error that may be allowed. ``real`` says in which sequences the rows are real, bool ``[B, 1, R, 1]``;
    None: in all. The tensors are zero in the other rows, which do not count.
    """

    measured: Tensor
    truth: Tensor
    rounded: Tensor
    rows: Tensor
    floor: float
    limit: float
    real: Tensor | None = None

    def worst_row(self) -> Worst:
        """The worst row. Its error is relative to its true norm, or to the median norm in its head if that is larger.

        A row whose true norm is almost zero has rounding errors of the size of its neighbours'; see ``LEAST_SCALE``.
        """
        norms = self.truth.norm(dim=-1)
        scale = self._at_least(torch.maximum(norms, _median_of_nonzero(norms)), norms)
        error = (self.measured - self.truth).norm(dim=-1) / scale
        rounding = (self.rounded - self.truth).norm(dim=-1) / scale
        worst_rounding = rounding.amax(-1, keepdim=True)
        limit = (ILL_CONDITIONED_FACTOR * worst_rounding).nan_to_num(0.0, 0.0).clamp(min=self.limit)
        allowed = self._allowed(worst_rounding, ROW_FACTOR, ROW_FACTOR, limit).expand_as(error)
        batch, head, row = _largest_ratio(error, allowed)
        where = f"row {self.rows[row].item()} of {self._name(batch, head)}"
        return Worst(error[batch, head, row].item(), allowed[batch, head, row].item(), where)

    def worst_head(self) -> Worst:
        """The worst head, judged by the norm over all its rows."""
        error, rounding = self._head_errors(self.measured), self._head_errors(self.rounded)
        allowed = self._allowed(rounding, HEAD_FACTOR, 2.0)
        batch, head = _largest_ratio(error, allowed)
        return Worst(error[batch, head].item(), allowed[batch, head].item(), self._name(batch, head))

    def worst_shift(self, keys: int) -> Worst:
        """The head with the largest mean over its rows of the deviation, relative to the norm of its rows.

        Rounding differs from row to row and averages out; a lost key shifts all rows in one direction. Random features
        (Performer) round sums that all rows of a head share: how far that shifts a head is chance, so the oracle's most
        shifted head counts for all of them.

        Args:
            keys: keys of each row.
        """
        counts = self._row_counts()
        scale = self._head_norms() * counts.sqrt()  # of the sum over the rows
        shift = (self.measured - self.truth).sum(2).norm(dim=-1) / scale
        rounding = self._head_errors(self.rounded)
        averaged = torch.maximum((self.rounded - self.truth).sum(2).norm(dim=-1) / scale, rounding / counts.sqrt())
        expected = (ROUNDING_FACTOR * averaged.nan_to_num(0.0, 0.0).amax()).clamp(min=LOST_KEY_SHARE / math.sqrt(keys))
        allowed = torch.minimum(self._allowed(rounding, ROUNDING_FACTOR, 1.0), expected)
        batch, head = _largest_ratio(shift, allowed)
        return Worst(shift[batch, head].item(), allowed[batch, head].item(), self._name(batch, head))

    def _allowed(self, rounding: Tensor, factor: float, floors: float, limit: Tensor | None = None) -> Tensor:
        """``factor`` roundings and ``floors`` floors; only the floors if the oracle overflows in this dtype.

        At most ``limit``; None: the limit of the whole tensor.
        """
        floor = floors * self.floor + FLOAT32_ROUNDINGS * torch.finfo(torch.float32).eps
        explained = (factor * rounding + floor).nan_to_num(floor, floor)
        return explained.clamp(max=self.limit) if limit is None else torch.minimum(explained, limit)

    def _row_counts(self) -> Tensor:
        """The number of real rows of each sequence, at least 1: float64 ``[B, 1]``."""
        if self.real is None:
            return self.truth.new_full((1, 1), self.truth.shape[2])
        return self.real.sum((2, 3)).clamp(min=1).to(self.truth.dtype)

    def _head_norms(self) -> Tensor:
        """The norm of each head, ``[B, H]``, where it is not below ``LEAST_SCALE``."""
        norms = self.truth.flatten(2).norm(dim=-1)
        return self._at_least(norms, norms)

    def _at_least(self, scale: Tensor, norms: Tensor) -> Tensor:
        share = 1.0 if self.truth.shape[2] <= FEW_ROWS else LEAST_SCALE
        return scale.clamp(min=max(share * norms.square().mean().sqrt().item(), torch.finfo(torch.float64).tiny))

    def _head_errors(self, values: Tensor) -> Tensor:
        return (values - self.truth).flatten(2).norm(dim=-1) / self._head_norms()

    def _name(self, batch: int, head: int) -> str:
        return f"head {head}" + (f" of sequence {batch}" if self.truth.shape[0] > 1 else "")


def _median_of_nonzero(norms: Tensor) -> Tensor:
    """The median over the rows of each head that are not zero, ``[B, H, 1]``; 0 for a head of zeros."""
    nonzero = norms.masked_fill(norms <= ZERO * norms.amax(), math.nan)
    return nonzero.nanmedian(-1, keepdim=True).values.nan_to_num(0.0)


def _largest_ratio(error: Tensor, allowed: Tensor) -> list[int]:
    """The index of the largest ``error / allowed``; one that is not a number is the largest."""
    ratio = (error / allowed).nan_to_num(math.inf)
    # Not torch.unravel_index, whose first call imports sympy, which takes half a second.
    return [int(index) for index in np.unravel_index(int(ratio.argmax()), ratio.shape)]
