"""The facets of a record: what the rows of one plot must hold equal, by name and in words."""

from harness.core.record import Record
from harness.core.spec import ModelSpec, OperationSpec, QualitySpec, TaskSpec
from harness.report.model import input_kinds

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
"""Models that tasks are trained in; two of them are two questions, where a measured model's family is its series'."""


def facets_of(record: Record) -> dict[str, str]:
    """The facets by name; names are those of the page's choices and of the tables' columns."""
    spec = record.spec
    machine = {"Type": spec.dtype, "Device": spec.device}
    match spec:
        case OperationSpec():
            shape = f"batch {spec.batch}, {spec.heads} heads of {spec.head_dim}"
            padded = f", {spec.padding:.3g} of it padded" if spec.padding else ""
            return {"Pass": WORDS[spec.mode], **machine, "Shape": shape + padded}
        case ModelSpec():
            batch = "an instance at the largest batch that fits" if spec.largest_batch else f"batch {spec.batch}"
            shape = (
                f"{batch}, {spec.layers} layers, width {spec.hidden_size}, {spec.heads} heads, "
                f"{spec.vocab_size:,} words"
            )
            return {"Model": WORDS.get(spec.head, spec.head), "Pass": WORDS[spec.mode], **machine, "Shape": shape}
        case QualitySpec():
            shape = f"batch {spec.batch}, {spec.heads} heads of {spec.head_dim}"
            return {
                "Inputs": input_kinds.words(spec), "Length": f"{spec.seq_len:,} tokens", **machine, "Shape": shape,
            }  # fmt: skip
        case TaskSpec():
            shape = f"{spec.layers} layers, width {spec.hidden_size}, {spec.heads} heads"
            budget = (
                f"{spec.steps} steps of {spec.batch}, rate {spec.learning_rate:g}, {spec.train_examples:,} examples"
            )
            task = {"Task": spec.task, "Model": FAMILIES[spec.family], "Length": f"{spec.seq_len:,} tokens"}
            return {**task, **machine, "Shape": f"{shape}; {budget}"}
