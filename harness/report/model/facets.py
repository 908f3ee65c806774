"""The facets of a record: the named settings that must be equal for two rows to be drawn in one plot."""

from collections.abc import Iterable

from harness.core.matched_errors import INPUTS_WORDS
from harness.core.record import Record
from harness.core.spec import ModelSpec, OperationSpec, QualityInputs, QualitySpec, TaskSpec

Facets = tuple[tuple[str, str], ...]
"""(name, value) pairs; the names are also those of the page's filters and of table columns."""

WORDS = {
    "forward": "forward",
    "forward_backward": "forward + backward",
    "training_step": "training step",
    "masked_lm": "masked LM",
    "sequence_classification": "sequence classification",
    "multiple_choice": "multiple choice",
    "token_classification": "token classification",
    "question_answering": "question answering",
}
FAMILIES = {"yoso": "YOSO's model", "lra": "Long Range Arena's model"}
"""The models that tasks are trained in. They are a facet of a task, whereas the family of a timed model is part of its
series, because timed models of different families are drawn in one plot."""

_INPUTS_IN_DETAIL: dict[QualityInputs, str] = {
    "matched": "one key per query",
    "clustered": "tokens in clusters",
    "normal": "standard normal, as timed",
    "recorded": "query, key and value of a trained model",
}
_INPUTS_EXPLAINED: dict[QualityInputs, str] = {
    "matched": "On sharp inputs each query is similar to one key, that of its own position, and everything else is "
    "noise: attention is close to a lookup, and landmarks or features have no structure to use.",
    "clustered": "On smooth inputs tokens lie around the centres of a few clusters, neighbours often around the same "
    "centre, and logits are small: attention is broad and close to low rank.",
    "normal": "On random inputs, which are those of the timed calls, query, key and value are independent: the output "
    "is little more than the mean of noise.",
    "recorded": "Recorded inputs are the query, key and value that the layers of a trained model received while it "
    "read real text: RXNMapper's on chemical reactions, or those of the user's own file. Beyond the recorded tokens "
    "they repeat with a little noise.",
}
_INPUTS_COMPARED = (
    "Which of them an attention resembles decides which kind of approximation works well (Chen et al., NeurIPS "
    "2021, arXiv 2110.15343), so an error on one kind says nothing about another."
)


def facets_of(record: Record) -> dict[str, str]:
    """The facets of a record, by name."""
    spec = record.spec
    machine = {"Type": spec.dtype, "Device": spec.device}
    match spec:
        case OperationSpec():
            shape = f"batch {spec.batch}, {spec.heads} heads of {spec.head_dim}"
            padded = f", {spec.padding:.3g} of each sequence padded" if spec.padding else ""
            return {"Pass": WORDS[spec.mode], **machine, "Shape": shape + padded}
        case ModelSpec():
            batch = "per instance at the largest batch that fits" if spec.largest_batch else f"batch {spec.batch}"
            shape = (
                f"{batch}, {spec.layers} layers, width {spec.hidden_size}, {spec.heads} heads, "
                f"vocabulary of {spec.vocab_size:,}"
            )
            return {"Model": WORDS.get(spec.head, spec.head), "Pass": WORDS[spec.mode], **machine, "Shape": shape}
        case QualitySpec():
            shape = f"batch {spec.batch}, {spec.heads} heads of {spec.head_dim}"
            return {
                "Inputs": describe_inputs(spec), "Length": f"{spec.seq_len:,} tokens", **machine, "Shape": shape,
            }  # fmt: skip
        case TaskSpec():
            shape = f"{spec.layers} layers, width {spec.hidden_size}, {spec.heads} heads"
            budget = f"{spec.steps} steps of {spec.batch}, {spec.train_examples:,} examples"
            if spec.pretrain_steps:
                budget += f", after {spec.pretrain_steps} steps of denoising"
            if spec.scored_on == "development":
                budget += ", scored on development examples"
            task = {"Task": spec.task, "Model": FAMILIES[spec.family], "Length": f"{spec.seq_len:,} tokens"}
            return {**task, **machine, "Shape": f"{shape}; {budget}"}


def describe_inputs(spec: QualitySpec) -> str:
    """The value of the facet ``Inputs``: the kind of inputs, with what was recorded and in which head size, or
    with the cosine similarity where it is not the default."""
    name, detail = INPUTS_WORDS[spec.inputs], _INPUTS_IN_DETAIL[spec.inputs]
    if spec.inputs == "recorded":
        file = f", file {spec.recording_sha256[:8]}" if spec.recording_sha256 else ""
        return f"{name} ({detail}: {spec.recording}{file}, heads of {spec.head_dim})"
    is_default = spec.similarity == QualitySpec.model_fields["similarity"].default
    return f"{name} ({detail})" if is_default else f"{name} ({detail}, cosine {spec.similarity:g})"


def explain_inputs(kinds: Iterable[QualityInputs]) -> str:
    """One sentence for each kind of inputs in ``kinds``, and how to compare them where there are several."""
    present = set(kinds)
    sentences = [sentence for kind, sentence in _INPUTS_EXPLAINED.items() if kind in present]
    return " ".join([*sentences, _INPUTS_COMPARED] if len(sentences) > 1 else sentences)
