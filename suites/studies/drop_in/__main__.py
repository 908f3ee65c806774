"""Measure what pretrained models keep when their attention is swapped.

``python -m suites.studies.drop_in --out reports/drop-in`` writes ``drop-in.json`` after every attention, and from it
``reading.md`` and ``drop-in.html``. Run again with the same options, it continues where it was interrupted.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from harness.core import registry
from harness.core.spec import Swap
from harness.measure import machine
from harness.models import packaged_text, packaged_weights
from suites.studies.drop_in import page, results
from suites.studies.drop_in.atom_mapping import AtomMapping
from suites.studies.drop_in.distillation import distil, original_states
from suites.studies.drop_in.passage_ranking import PassageRanking
from suites.studies.drop_in.pretrained import Pretrained
from suites.studies.drop_in.results import Outcome, Settings, Source, Study

HASHES = (32, 64, 128)
SWAPS = (
    Swap(attention="sdpa"),
    Swap(attention="yoso_e"),
    Swap(attention="yoso_e", knobs={"hash_code_len": 16}),
    *(Swap(attention="yoso", knobs={"num_hash": hashes}) for hashes in HASHES),
    Swap(attention="yoso_e", knobs={"norm_floor": 0.1}),
    *(Swap(attention="yoso", knobs={"num_hash": hashes, "norm_floor": 0.1}) for hashes in HASHES),
    Swap(attention="yoso_e", knobs={"normalization": "sum"}),
    *(Swap(attention="yoso", knobs={"num_hash": hashes, "normalization": "sum"}) for hashes in HASHES),
    *(Swap(attention="yoso", knobs={"num_hash": hashes, "estimator": "rescored"}) for hashes in (16, 32)),
    Swap(attention="linear"),
    *(Swap(attention="performer_softmax", knobs={"num_features": features}) for features in (64, 256)),
    Swap(attention="nystromformer", knobs={"num_landmarks": 32}),
    Swap(attention="nystromformer", knobs={"num_landmarks": 64}),
    Swap(attention="local_window", knobs={"window": 16}),
    Swap(attention="local_window", knobs={"window": 64}),
    Swap(attention="none"),
)
"""``sdpa`` is the original's own attention and must agree wholly; ``none`` mixes no tokens at all."""


def read(name: str, settings: Settings) -> tuple[Pretrained, Source]:
    """A pretrained model with its texts, and where they are from.

    Raises:
        ValueError: the name is unknown, the package is missing, or a file has a wrong digest.
    """
    if name not in packaged_weights.MODELS:
        raise ValueError(f"model must be one of {', '.join(packaged_weights.MODELS)}, got {name!r}")
    packaged = packaged_weights.MODELS[name]
    if settings.max_tokens > packaged.longest:
        raise ValueError(
            f"max_tokens must be at most {packaged.longest}, the positions of {name}, got {settings.max_tokens}"
        )
    loaded = packaged_weights.load(packaged)
    if packaged.reads == "reactions":
        original: Pretrained = AtomMapping(loaded, packaged_text.REACTIONS, settings)
        texts = "mixtures of textbook reactions (harness.models.packaged_text.REACTIONS)"
    else:
        from pydoc_data.topics import topics

        original = PassageRanking(loaded, topics, settings)
        texts = f"passages of the topics of help() in Python {sys.version_info.major}.{sys.version_info.minor}"
    digest = hashlib.sha256()
    for batch in original.held_out:
        digest.update(batch.input_ids.numpy().tobytes())
    files = (packaged.config, packaged.vocabulary, packaged.weights)
    return original, Source(
        package=f"{packaged.distribution} {packaged.version}",
        sha256={file.path: file.sha256 for file in files},
        texts=texts,
        texts_sha256=digest.hexdigest(),
        held_out=sum(len(batch.input_ids) for batch in original.held_out),
        longest=original.longest,
        task=original.task,
        measures=original.measures,
    )


def chosen(attentions: Sequence[str]) -> list[Swap]:
    """The study's settings of these attentions, of all if none is named; another attention has its default knobs.

    Raises:
        RegistryError: an attention is unknown.
    """
    for name in attentions:
        registry.get(name)
    named = attentions or list(dict.fromkeys(swap.attention for swap in SWAPS))
    return [
        swap for name in named for swap in [swap for swap in SWAPS if swap.attention == name] or [Swap(attention=name)]
    ]


def run(originals: Sequence[Pretrained], swaps: Sequence[Swap], study: Study, folder: Path) -> Study:
    """Measure what the study lacks; its results and pages are written after every attention."""
    commit = machine.commit()
    for original in originals:
        left = [swap for swap in swaps if not study.has(original.name, swap)]
        wanted = original_states(original) if left else []
        for number, swap in enumerate(left, 1):
            outcome = distil(swap, original, wanted, study.settings).model_copy(update={"commit": commit})
            study = study.with_outcome(outcome)
            results.save(study, folder)
            page.write(study, folder)
            typer.echo(f"{original.name} {number}/{len(left)} {swap.label}: {_in_short(outcome)}")
    return study


def _in_short(outcome: Outcome) -> str:
    if not outcome.comparisons:
        return f"{outcome.status}: {outcome.reason}"
    first, last = outcome.comparisons[0], outcome.comparisons[-1]
    (name, *_) = first.agreement
    return (
        f"{name} {first.agreement[name]:.3f}, after {last.step} steps {last.agreement[name]:.3f} "
        f"({outcome.status}, {outcome.seconds:.0f} s)"
    )


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the results")] = Path("out/drop-in"),
    model: Annotated[list[str] | None, typer.Option(help="rxnmapper or minilm; default: those installed")] = None,
    attention: Annotated[list[str] | None, typer.Option(help="an attention; default: the study's")] = None,
    steps: Annotated[int, typer.Option(help="distillation steps; 0: only the swap")] = 160,
    learning_rate: Annotated[float, typer.Option(help="of AdamW")] = 2e-4,
    batch: Annotated[int, typer.Option(help="texts in a step")] = 4,
    held_out: Annotated[int, typer.Option(help="held-out texts")] = 24,
    max_tokens: Annotated[int, typer.Option(help="tokens of a text, at most")] = 256,
    seed: Annotated[int, typer.Option(help="of training texts and random numbers")] = 0,
) -> None:
    """Measure, and write the results and their pages. Exit code 2: an argument, a package or a file is wrong."""
    try:
        settings = _settings(
            steps=steps,
            learning_rate=learning_rate,
            batch=batch,
            held_out=held_out,
            max_tokens=max_tokens,
            seed=seed,
        )
        swaps = chosen(attention or [])
        names = model or [
            name for name, packaged in packaged_weights.MODELS.items() if packaged_weights.missing(packaged) is None
        ]
        # Without any, the first one's error says how to install it.
        read_models = [read(name, settings) for name in names or list(packaged_weights.MODELS)[:1]]
        sources = {original.name: source for original, source in read_models}
        out.mkdir(parents=True, exist_ok=True)
        study = results.resumed(Study(settings=settings, sources=sources, machine=machine.fingerprint()), out)
        run([original for original, _ in read_models], swaps, study, out)
    except (ValueError, OSError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(out / results.RESULTS)


def _settings(**fields: float) -> Settings:
    """The settings, or a ValueError that names the option."""
    try:
        return Settings.model_validate(fields)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"--{str(first['loc'][0]).replace('_', '-')} {first['input']}: {first['msg']}") from None


if __name__ == "__main__":
    typer.run(main)
