"""What an attention can do, declared by its plugin as data: the rows of the table that ``harness list`` prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Ability = bool | str
"""Yes, no, or the only place where it holds, as text: ``"cpu"``."""

HEADINGS = {
    "devices": "devices",
    "dtypes": "dtypes",
    "padding_mask": "padding",
    "padding_width": "any padding",
    "scales": "any scale",
    "attention_mask": "mask",
    "causal": "causal",
    "cross_attention": "n_q != n_k",
    "gqa": "GQA",
    "head_dims": "head sizes",
    "backward": "backward",
    "deterministic": "deterministic",
    "compile": "compile",
}
"""Column heading of the table, by field of ``Capabilities``."""

_DEFAULT_REASONS = {
    "attention_mask": "the harness passes a key padding mask only, no mask per query and key",
    "causal": "the harness measures no causal attention",
    "cross_attention": "it needs as many keys as queries",
    "gqa": "it needs as many key and value heads as query heads",
    "compile": "torch.compile(fullgraph=True) fails on it",
}
"""Reason for a False field, by field, where the plugin gives none of its own."""

_SHORT_DTYPES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Capabilities:
    """What the module that a plugin builds can do; ``AttentionPlugin.unsupported`` decides about one case.

    Raises:
        ValueError: a field is False and there is no reason for it, or ``why`` has a key that is not a field.
    """

    devices: tuple[str, ...] = ("cpu", "cuda")
    """Device types, as in ``torch.device(...).type``."""
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    padding_mask: Ability = True
    """Outputs at real positions do not depend on padded keys."""
    padding_width: Ability = True
    """Real tokens get what their sequence gets without its padding, however much a batch adds at its end or front."""
    scales: Ability = True
    """Finite and as exact as rounding allows where q, k or v are 10,000 times larger or smaller than normal."""
    attention_mask: Ability = False
    """The module takes a mask per query and key, ``[N, N]``."""
    causal: Ability = False
    """The module can hide later keys from each query."""
    cross_attention: Ability = False
    """The number of queries may differ from the number of keys: ``n_q != n_k``."""
    gqa: Ability = False
    """Grouped-query attention: fewer key and value heads than query heads."""
    head_dims: str = "any"
    """Head sizes, as text."""
    backward: Ability = True
    """Gradients of q, k and v."""
    deterministic: Ability = True
    """Equal inputs and an equal seed give equal bits, forward and backward."""
    compile: Ability = False
    """``torch.compile(fullgraph=True)`` compiles the module."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Reasons for what is False or limited, by field."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.why) - set(HEADINGS))
        if unknown:
            raise ValueError(f"'why' must have only capabilities as keys ({', '.join(HEADINGS)}), got {unknown}")
        unexplained = [name for name in HEADINGS if getattr(self, name) is False and not self.reason(name)]
        if unexplained:
            raise ValueError(f"{unexplained} is False without a reason; add one to 'why'")

    def reason(self, name: str) -> str | None:
        """Why the field ``name`` is False or limited; None where there is nothing to explain."""
        value = getattr(self, name)
        if value is True:
            return None
        return self.why.get(name) or (_DEFAULT_REASONS.get(name) if value is False else None)

    def table_cells(self) -> list[str]:
        """The cells of this attention's row of the table, in the order of ``HEADINGS``."""
        return [_cell(getattr(self, name)) for name in HEADINGS]


def _cell(value: Ability | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return " ".join(_SHORT_DTYPES.get(name, name) for name in value)
    return value if isinstance(value, str) else "yes" if value else "no"
