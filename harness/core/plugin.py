"""The interface of an attention under measurement. A plugin is one object; see CONTRIBUTING.md for how to add one."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from harness.core.capabilities import Capabilities
from harness.core.spec import Scalar, Spec


class AttentionPlugin(ABC):
    """One attention.

    The module that ``build`` returns is called as::

        module(q, k, v, key_padding_mask) -> Tensor
        q, k, v: [B, H, N, D]; key_padding_mask: bool [B, N], True for a real token, or None; result: [B, H, N, D]

    Outputs at padded positions are unspecified, but finite; outputs at real positions must not depend on padded keys.
    Inputs may have any strides and are never written to. The output has memory of its own, and nothing of a call is
    kept for the next. ``harness.conformance`` tests all of this.
    An attention with randomness draws it from torch's default CPU generator at each call, so that
    ``torch.manual_seed`` replays a call bit for bit.
    """

    name: str
    summary: str
    """One line: what it computes and what it costs."""
    source: str
    """The paper or package, with a link."""
    estimates: str | None = None
    """The attention whose output this one approximates, by name; None where the definition is its own."""
    budget: str | None = None
    """The knob that buys accuracy of what it estimates: a number of hashes, features, landmarks; None: it has none."""
    kernel_error: float = 0.0
    """Relative error that the kernel's own functions have by design, such as a fast exponential; see its source."""
    capabilities: Capabilities = Capabilities()
    """What it can do, as data; ``unsupported`` decides about one case."""

    def default_knobs(self, spec: Spec) -> Mapping[str, Scalar]:
        """Parameters of the attention with their defaults for this spec. A spec may override only these."""
        del spec
        return {}

    def knobs(self, spec: Spec) -> dict[str, Scalar]:
        """Defaults with the spec's overrides.

        Raises:
            ValueError: the spec names a knob that this attention does not have.
        """
        known = dict(self.default_knobs(spec))
        unknown = sorted(set(spec.knobs) - set(known))
        if unknown:
            raise ValueError(f"attention {self.name!r} has no knob {unknown}; it has {sorted(known)}")
        return known | dict(spec.knobs)

    def unsupported(self, spec: Spec) -> list[str]:
        """Every reason why this spec cannot run here; an empty list where it can."""
        del spec
        return []

    def kernel(self, spec: Spec) -> str:
        """The implementation that a call with this spec dispatches to, for the record."""
        return f"{self.name} on {spec.device}"

    def cost(self, spec: Spec) -> Mapping[str, float] | None:
        """The least that one call must do, by ceiling, or None where nobody has counted it.

        See ``harness.attentions.shared.cost``.
        """
        del spec
        return None

    @abstractmethod
    def build(self, spec: Spec) -> nn.Module:
        """The module to measure, on ``spec.device``.

        Its parameters, if it has any, are the attention's own weights, in the spec's dtype. They start from
        ``spec.seed`` alone, so that ``oracle`` has the same; in a model every layer has a module and a seed of its own.
        """

    @abstractmethod
    def oracle(
        self, spec: Spec, q: Tensor, k: Tensor, v: Tensor, key_padding_mask: Tensor | None, rows: Tensor
    ) -> Tensor:
        """The definition, slow and obvious: the output at the query positions ``rows``.

        Args:
            spec: the case.
            q: ``[B, H, N, D]``, on any device, in any floating dtype; all arithmetic is in that dtype. The verifier
                makes that device torch's default one, so that new tensors are there too.
            k: as ``q``.
            v: as ``q``.
            key_padding_mask: bool ``[B, N]`` or None.
            rows: int64 ``[R]``, query positions.

        Returns:
            ``[B, H, R, D]``, differentiable in q, k and v. The verifier calls it in float64 for the truth, and in
            the case's dtype for the error that rounding alone explains. Randomness: the verifier seeds torch
            alike before the module's call and before this one.
        """


def torch_dtype(name: str) -> torch.dtype:
    """The torch dtype of a spec's dtype name."""
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]
