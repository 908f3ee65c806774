"""The interface of an attention that the harness measures; CONTRIBUTING.md explains how to add one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.core.attention_shape import device_reasons
from harness.core.capabilities import Capabilities
from harness.core.spec import Scalar, Spec


class ContractError(ValueError):
    """A method of a plugin returned something that ``AttentionPlugin`` does not allow; the message says what."""


class AttentionPlugin(ABC):
    """One attention: its name, what it can do, the module to measure, and the oracle that the module must match.

    The module that ``build`` returns is called as::

        module(q, k, v, key_padding_mask) -> Tensor
        q, k, v: [B, H, N, D]; key_padding_mask: bool [B, N], True for a real token, or None; result: [B, H, N, D]

    Outputs at padded positions are unspecified, but finite; outputs at real positions must not depend on padded keys.
    Inputs may have any strides and must not be modified. The output shares no memory with the inputs, and the module
    keeps no state from one call to the next. ``harness.conformance`` tests all of this.
    An attention that uses random numbers draws them from torch's default CPU generator in each call, so that
    ``torch.manual_seed`` reproduces a call bit for bit.
    """

    name: str
    summary: str
    """One line: what the attention computes, and its time and memory complexity."""
    source: str
    """The paper or package, with a link."""
    estimates: str | None = None
    """Name of the attention whose output this one approximates; None where it has a definition of its own."""
    budget: str | None = None
    """The knob that trades cost for accuracy, such as a number of hashes, features or landmarks; None: it has none."""
    kernel_error: float = 0.0
    """Relative error of the kernel's own functions by design, such as a fast exponential; the verifier allows it."""
    exact_softmax: bool = False
    """The attention computes softmax attention exactly, up to rounding; its oracle is then softmax attention."""
    capabilities: Capabilities = Capabilities()
    """What the attention can do, as data; ``unsupported`` decides about one case."""

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """The attention's parameters with their defaults for this spec. A spec can override only these."""
        del spec
        return {}

    def knobs(self, spec: Spec) -> dict[str, Scalar]:
        """The default knobs with the spec's overrides.

        Raises:
            ValueError: the spec has a knob that this attention does not have.
        """
        known = dict(self.default_knobs(spec))
        unknown = sorted(set(spec.knobs) - set(known))
        if unknown:
            raise ValueError(f"attention {self.name!r} has no knob {unknown}; it has {sorted(known)}")
        return known | dict(spec.knobs)

    def unsupported(self, spec: Spec) -> list[str]:
        """Every reason why this spec cannot run on this machine; an empty list where it can.

        By default the only reason is a missing device.
        """
        return device_reasons(spec)

    def kernel(self, spec: Spec) -> str:
        """Name of the implementation that a call with this spec runs, for the record."""
        return f"{self.name} on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The least work of one call, by the name of the ceiling that limits it; None: it is not counted.

        ``harness.attentions.shared.cost`` explains the names and units.
        """
        del spec
        return None

    @abstractmethod
    def build(self, spec: Spec) -> nn.Module:
        """The module to measure, on ``spec.device``.

        Its parameters, if it has any, are the attention's own weights, in the spec's dtype. Their initial values
        depend on ``spec.seed`` only, so that ``oracle`` can compute the same ones. In a model, every layer has its own
        module and seed.
        """

    @abstractmethod
    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The attention by its definition, written for clarity and not for speed, at the query positions ``rows``.

        The verifier calls it in float64 for the reference result, and in the case's dtype to measure how much error
        rounding alone causes. It seeds torch with the same value before the module's call and before this call, so
        both draw the same random numbers.

        Args:
            spec: the case.
            q: ``[B, H, N, D]``, on any device, in any floating dtype; all arithmetic is in that dtype. The verifier
                makes q's device torch's default device, so new tensors are created there.
            k: as ``q``.
            v: as ``q``.
            key_padding_mask: bool ``[B, N]``, True for a real token, or None.
            rows: int64 ``[R]``, query positions.

        Returns:
            ``[B, H, R, D]``, differentiable in q, k and v.
        """


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype that a spec's dtype name stands for."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
