"""Measure error against time of YOSO's estimators on a CPU.

``python -m suites.studies.estimators --out reports/cpu-estimators`` writes ``estimators.json`` after every kind of
inputs and length, and from it ``reading.md``. Run again, it measures what is missing.
"""

from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from harness.core.spec import Swap
from harness.measure import machine
from suites.studies.estimators import page, results
from suites.studies.estimators.measurement import Effort, input_spec, installed_inputs, measure
from suites.studies.estimators.results import Study

LENGTHS = (2048, 16384, 4096, 8192, 1024, 512)
"""The most telling ones first, so that they are there if the time ends."""
SHORTEST = 64
"""There must be as many tokens as shared keys."""
SETTINGS = (
    Swap(attention="sdpa"),
    Swap(attention="yoso_e"),
    *(Swap(attention="yoso", knobs={"num_hash": hashes}) for hashes in (16, 32, 64, 128)),
    *(
        Swap(attention="yoso", knobs={"num_hash": hashes, "estimator": "rescored", "shared_keys": 64})
        for hashes in (16, 32, 64)
    ),
    Swap(
        attention="yoso",
        knobs={
            "num_hash": 16, "estimator": "rescored", "shared_keys": 64, "rescore_floor": 0.0, "rescore_rest": False,
        },
    ),
)  # fmt: skip
"""Two exact attentions, plain samples, rescored ones, and rescored ones without a bias. Codes have log2(n) bits."""


def run(
    study: Study, inputs: Sequence[str], lengths: Sequence[int], effort: Effort, seconds: float, folder: Path
) -> Study:
    """Measure what the study lacks, as far as the time goes; its results and page are written after every point."""
    end = monotonic() + seconds
    commit = machine.commit()  # before the results are written, which are a change of the tree
    for seq_len in lengths:
        for kind in inputs:
            if study.has(kind, seq_len):
                continue
            left = end - monotonic()
            point = measure(kind, seq_len, study.settings, effort, left) if left > 0 else None
            if point is None:
                typer.echo(f"{kind} n={seq_len}: left out, its rounds do not fit in the time left; run again")
                continue
            study = study.with_point(point.model_copy(update={"commit": commit}))
            results.save(study, folder)
            page.write(study, folder)
            typer.echo(f"{kind} n={seq_len}: {point.rounds} rounds, {point.seconds:.0f} s")
    return study


def main(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of the results")] = Path("out/cpu-estimators"),
    inputs: Annotated[
        list[str] | None, typer.Option(help="matched, clustered, rxnmapper or minilm; default: those installed")
    ] = None,
    lengths: Annotated[str, typer.Option(help="tokens, in the order of measuring")] = ",".join(map(str, LENGTHS)),
    minutes: Annotated[float, typer.Option(help="what does not fit is left for another run", min=0)] = 12.0,
    rounds: Annotated[int, typer.Option(help="rounds of each length, at least", min=1)] = Effort.least,
) -> None:
    """Measure, and write the results and their page. Exit code 2: an argument, a package or a file is wrong."""
    try:
        chosen_lengths = _lengths(lengths)
        kinds = inputs or installed_inputs()
        for kind in kinds:
            input_spec(kind, chosen_lengths[0])  # refuses an unknown or missing one before anything is measured
        out.mkdir(parents=True, exist_ok=True)
        study = results.resumed(Study(settings=list(SETTINGS), machine=machine.fingerprint()), out)
        run(study, kinds, chosen_lengths, Effort(least=rounds), 60 * minutes, out)
    except (ValueError, OSError, ArithmeticError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    typer.echo(out / results.RESULTS)


def _lengths(text: str) -> list[int]:
    lengths = [int(part) if part.strip().isdecimal() else 0 for part in text.split(",")]
    if min(lengths) < SHORTEST:
        raise ValueError(
            f"--lengths: expected whole numbers of at least {SHORTEST} with commas between them, got {text!r}; "
            "give for example 2048,16384"
        )
    return lengths


if __name__ == "__main__":
    typer.run(main)
