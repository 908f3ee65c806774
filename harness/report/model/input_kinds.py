"""The kinds of inputs that errors are measured on, in words: what a number of a quality case holds for."""

from collections.abc import Iterable

from harness.core.spec import QualityInputs, QualitySpec

_NAMES: dict[QualityInputs, tuple[str, str]] = {
    "matched": ("sharp", "a key for each query"),
    "clustered": ("smooth", "tokens in clusters"),
}
_MEANING: dict[QualityInputs, str] = {
    "matched": "On sharp inputs each query is like one key, that of its own position, and all else is noise: attention "
    "is close to a lookup, and landmarks or features have no structure to use.",
    "clustered": "On smooth inputs tokens lie around the centres of a few clusters, neighbours often around the same, "
    "and logits are small: attention is broad and close to low rank.",
}
_BOTH = (
    "Which of the two an attention is decides what kind of approximation does well (Chen et al., NeurIPS 2021, arXiv "
    "2110.15343): a number of one kind says nothing of the other."
)


def words(spec: QualitySpec) -> str:
    """The value of the facet ``Inputs``: what kind, and the cosine where it is another than usual."""
    name, how = _NAMES[spec.inputs]
    usual = spec.similarity == QualitySpec.model_fields["similarity"].default
    return f"{name} ({how})" if usual else f"{name} ({how}, cosine {spec.similarity:g})"


def meaning(kinds: Iterable[QualityInputs]) -> str:
    """What the kinds that a run has are, a sentence each."""
    found = set(kinds)
    said = [sentence for kind, sentence in _MEANING.items() if kind in found]
    return " ".join([*said, _BOTH] if len(said) > 1 else said)
