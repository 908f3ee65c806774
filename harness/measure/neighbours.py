"""Small cases near a case, so that an attention which is right only at the sizes that are measured does not pass.

A kernel can be right at head size 64 and wrong at 80, right for two sequences and wrong for three, or assume that the
padding is at the end. Where only the case itself were verified, nobody would notice until somebody used the kernel with
other sizes. Each neighbour has another head size, length, batch or padding than most cases, in the case's own dtype, on
its device and with its knobs, and one call is compared with the oracle like the case itself
(``harness.measure.verify``).

A neighbour that the plugin declares unsupported is left out: such a limit is declared, not hidden.
"""

import time
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from harness.core.plugin import AttentionPlugin
from harness.core.record import NEIGHBOUR, NEIGHBOURS, Check
from harness.core.record_text import exception_text
from harness.core.spec import OperationSpec
from harness.measure import inputs, parameter_gradients, verify
from yoso import torch_private

Padding = Literal["none", "right", "left", "per_sequence", "holes"]
"""Where a sequence is padded; ``per_sequence``: each sequence in another place, the last nowhere; ``holes``: at random
positions, others in each sequence."""

PADDING = 0.25
"""The fraction of a sequence that is padding where it is on the right or on the left."""
TIME_LIMIT = 3.0
"""Seconds after which no further neighbour is begun, from the end of the first one; none if that was compiled."""


@dataclass(frozen=True)
class Neighbour:
    """The sizes of a neighbour; ``head_dim`` None is the case's own."""

    head_dim: int | None
    seq_len: int
    padding: Padding = "none"
    batch: int = 3
    heads: int = 3

    def of(self, spec: OperationSpec) -> OperationSpec:
        """The neighbour of ``spec``."""
        sizes = {"seq_len": self.seq_len, "batch": self.batch, "heads": self.heads}
        own_size = {"head_dim": spec.head_dim if self.head_dim is None else self.head_dim}
        return spec.model_copy(update=sizes | own_size | {"padding": 0.0 if self.padding == "none" else PADDING})

    def mask(self, real: Tensor | None) -> Tensor | None:
        """The padding mask, from the mask ``real`` with padding on the right."""
        if real is None or self.padding == "right":
            return real
        if self.padding == "left":
            return real.flip(1)
        n = self.seq_len
        if self.padding == "holes":
            drawn = torch.rand(self.batch, n, generator=torch.Generator().manual_seed(n))
            return (drawn > PADDING).to(real.device)
        position = torch.arange(n, device=real.device)
        return torch.stack([position < n - n // 3, position >= n // 2, position >= 0])


NEIGHBOURS_OF_A_CASE = (
    # The first one differs in everything, for an attention that is too slow for more.
    Neighbour(32, 129, "per_sequence"),
    Neighbour(None, 77),
    Neighbour(80, 96, "left"),
    Neighbour(16, 33),
    Neighbour(128, 65),
    Neighbour(None, 48, "left"),
    Neighbour(None, 72, "right"),
    Neighbour(None, 77, "per_sequence"),
    Neighbour(None, 70, "holes"),
    Neighbour(None, 40, batch=1, heads=1),
)


@dataclass(frozen=True)
class _PluginAndCase:
    """What the neighbours depend on. Equal only for the same plugin object, because a plugin need not be hashable."""

    plugin: AttentionPlugin
    spec: OperationSpec

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PluginAndCase) and self.plugin is other.plugin and self.spec == other.spec

    def __hash__(self) -> int:
        return hash((id(self.plugin), self.spec))


_resets: list[OperationSpec] = []
"""The cases whose neighbours were compiled, after which torch forgot all compiled code."""


def check(plugin: AttentionPlugin, spec: OperationSpec) -> list[Check]:
    """The verification of the neighbours of ``spec``, done once in this process for all cases that share them.

    Call it before the case's own verification: where a neighbour was compiled, torch forgets all compiled code, so that
    the case is compiled for its own sizes and not for any size.

    Returns:
        The first failed check of each neighbour that is wrong, and a summary: how many neighbours were compared, and
        the largest error of them all, in units of the allowed error.
    """
    any_size = {"seq_len": 1, "batch": 1, "heads": 1, "padding": 0.0}
    return list(_checked(_PluginAndCase(plugin, spec.model_copy(update=any_size))))


def resets() -> int:
    """How often torch was made to forget all compiled code, and with it the seconds of compilation that it counted."""
    return len(_resets)


@cache
def _checked(case: _PluginAndCase) -> tuple[Check, ...]:
    compiled_before = torch_private.compile_seconds()
    failed: list[Check] = []
    ratios: list[float] = []
    refused = left_out = 0
    deadline = float("inf")
    for neighbour in NEIGHBOURS_OF_A_CASE:
        if time.monotonic() > deadline:
            left_out += 1
            continue
        checks = _checks(case.plugin, neighbour.of(case.spec), neighbour)
        if not checks:
            refused += 1
            continue
        failed += [check for check in checks if not check.passed][:1]
        ratios.append(max(_ratio(check) for check in checks))
        # Each further neighbour of a compiled attention would be compiled again, for seconds.
        is_compiled = torch_private.compile_seconds() > compiled_before
        deadline = min(deadline, time.monotonic() + (0.0 if is_compiled else TIME_LIMIT))
    if torch_private.compile_seconds() > compiled_before:
        _resets.append(case.spec)
        torch.compiler.reset()
    return (*failed, _summary(ratios, refused, left_out))


def _checks(plugin: AttentionPlugin, spec: OperationSpec, neighbour: Neighbour) -> list[Check]:
    """The checks of one neighbour, which its name begins; none if the plugin declares it unsupported."""
    sizes = f"head_dim={spec.head_dim} n={spec.seq_len} batch={spec.batch} heads={spec.heads}"
    name = f"{NEIGHBOUR} {sizes}" + ("" if neighbour.padding == "none" else f" padding={neighbour.padding}")
    try:
        supported = _with_supported_knobs(plugin, spec)
        if supported is None:
            return []
        module = plugin.build(supported).train(supported.mode == "forward_backward")
        given = inputs.make(supported)
        given = replace(given, key_padding_mask=neighbour.mask(given.key_padding_mask))
        checks = verify.check_one_call(plugin, supported, module, given)
        if supported.mode == "forward_backward":
            checks += parameter_gradients.check(plugin, supported, module, given)
    except KeyboardInterrupt:  # the user's
        raise
    except BaseException as error:  # a plugin may be third-party code: whatever it raises is the result
        return [Check(what=f"{name} raised {exception_text(error)}", error=None, allowed=0.0, passed=False)]
    return [check.model_copy(update={"what": f"{name}: {check.what}"}) for check in checks]


def _with_supported_knobs(plugin: AttentionPlugin, spec: OperationSpec) -> OperationSpec | None:
    """``spec``; with the default knobs where its own do not fit its size; None if the plugin refuses both."""
    for knobs in (spec.knobs, {}):
        candidate = spec.model_copy(update={"knobs": knobs})
        try:
            plugin.knobs(candidate)
        except ValueError:
            continue
        if not plugin.unsupported(candidate):
            return candidate
    return None


def _summary(ratios: list[float], refused: int, left_out: int) -> Check:
    parts = [f"{len(ratios)} case{'' if len(ratios) == 1 else 's'}"]
    parts += [f"{refused} unsupported"] if refused else []
    parts += [f"{left_out} left out to save time"] if left_out else []
    what = f"{NEIGHBOURS}: {', '.join(parts)}, worst error / allowed"
    worst = max(ratios, default=0.0)
    return Check(what=what, error=worst, allowed=1.0, passed=worst <= 1)


def _ratio(check: Check) -> float:
    if check.error is None:
        return float("inf")
    return check.error / check.allowed if check.allowed else float("inf") if check.error else 0.0
