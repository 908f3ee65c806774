"""What an attention can do, declared by its plugin as data: the rows of the matrix that ``harness list`` prints."""

from collections.abc import Mapping
from dataclasses import dataclass, field

Ability = bool | str
"""Yes, no, or in a word where: ``"cpu"``."""

HEADINGS = {
    "devices": "devices",
    "dtypes": "dtypes",
    "padding_mask": "padding",
    "attention_mask": "mask",
    "causal": "causal",
    "cross_attention": "n_q != n_k",
    "gqa": "GQA",
    "head_dims": "head sizes",
    "backward": "backward",
    "deterministic": "same bits",
    "compile": "compile",
}
"""Field of ``Capabilities`` by its column of the matrix."""

_IN_GENERAL = {
    "attention_mask": "the harness hands over key padding and no mask of pairs",
    "causal": "the harness asks no attention to hide the future",
    "cross_attention": "it takes as many queries as keys",
    "gqa": "it takes as many key heads as query heads",
    "compile": "torch.compile(fullgraph=True) does not take it",
}
"""Why not, where a plugin gives no reason of its own."""

_SHORT = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


@dataclass(frozen=True)
class Capabilities:
    """What the module that a plugin builds can do; ``AttentionPlugin.unsupported`` decides about one case.

    Raises:
        ValueError: a field is False and nothing says why, or ``why`` names no field.
    """

    devices: tuple[str, ...] = ("cpu", "cuda")
    dtypes: tuple[str, ...] = ("float32", "bfloat16", "float16")
    padding_mask: Ability = True
    """Outputs at real positions do not depend on padded keys."""
    attention_mask: Ability = False
    """A mask of pairs, ``[N, N]``."""
    causal: Ability = False
    cross_attention: Ability = False
    """Other queries than keys: ``n_q != n_k``."""
    gqa: Ability = False
    """Fewer key and value heads than query heads."""
    head_dims: str = "any"
    backward: Ability = True
    deterministic: Ability = True
    """Equal inputs and seed give equal bits, forward and backward."""
    compile: Ability = False
    """``torch.compile(fullgraph=True)`` takes the module."""
    why: Mapping[str, str] = field(default_factory=dict)
    """Field by reason, for what is False or limited."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.why) - set(HEADINGS))
        if unknown:
            raise ValueError(f"'why' explains {unknown}, which is no capability; they are {sorted(HEADINGS)}")
        silent = [name for name in HEADINGS if getattr(self, name) is False and not self.reason(name)]
        if silent:
            raise ValueError(f"{silent} is False and 'why' has no reason for it")

    def reason(self, name: str) -> str | None:
        """Why the field ``name`` is False or limited; None where there is nothing to explain."""
        value = getattr(self, name)
        if value is True:
            return None
        return self.why.get(name) or (_IN_GENERAL.get(name) if value is False else None)

    def words(self) -> list[str]:
        """The row of the matrix, in the order of ``HEADINGS``."""
        return [_word(getattr(self, name)) for name in HEADINGS]


def _word(value: Ability | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return " ".join(_SHORT.get(one, one) for one in value)
    return value if isinstance(value, str) else "yes" if value else "no"
