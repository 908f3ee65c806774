"""``python -m suites.accuracy``: train every attention with its best learning rate, and compare it with softmax.

It is no part of the profiles: the profile ``standard`` takes days on one core. Run it from the project's root::

    python -m suites.accuracy --profile standard --out out/accuracy

The same command continues a run that was killed, also on another machine to which the folder was moved: no training is
repeated. The folder has ``accuracy.md``, the page for readers; ``summary.json``, its numbers; ``accuracy.json``, a run
that ``harness report`` reads, with one record for all seeds of an attention; and ``accuracy.log.jsonl``, the log of all
trainings.
"""

import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harness.commands.error_boundary import CommandGroup
from harness.processes import ending_signals
from harness.processes.case_worker import CaseWorker
from harness.pytest_plugin import benchmark_json
from suites.accuracy import page, verdicts
from suites.accuracy.plan import PLANS, Plan
from suites.accuracy.report_run import report_run
from suites.accuracy.trainings import Trainings, Worker

app = typer.Typer(cls=CommandGroup, add_completion=False, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def main(
    profile: Annotated[str, typer.Option(help=f"What is trained: {' or '.join(PLANS)}.")] = "quick",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the results; a run in it is continued.")] = Path(
        "out/accuracy"
    ),
    jobs: Annotated[int, typer.Option(min=1, help="Trainings at a time; the cores are divided among them.")] = 1,
    settings: Annotated[str, typer.Option(help="Only these tasks and lengths: needle-n128,digits-n256.")] = "",
    attentions: Annotated[str, typer.Option(help="Only these attentions: sdpa,yoso.")] = "",
    pretrain_steps: Annotated[
        int, typer.Option(min=0, help="Steps of denoising on the training examples before each training.")
    ] = 0,
    order: Annotated[
        bool, typer.Option("--order", help="Print the order of the trainings, and train nothing.")
    ] = False,
) -> None:
    """Train every attention with each learning rate, and with its best one on fresh seeds; compare with softmax."""
    if profile not in PLANS:
        raise ValueError(f"--profile: expected {' or '.join(PLANS)}, got {profile!r}; name one of them")
    plan = PLANS[profile].after_denoising(pretrain_steps)
    chosen = plan.only(_names(settings), _names(attentions))
    if order:
        for cell in chosen.cells():
            typer.echo(cell.label)
        return
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    command = f"python -m suites.accuracy {shlex.join(sys.argv[1:])}"
    run(plan, chosen, out, jobs, command, lambda: CaseWorker(timeout=None))


def run(plan: Plan, chosen: Plan, out: Path, jobs: int, command: str, worker: Callable[[], Worker]) -> None:
    """Train the chosen part of the plan and write the results after each cell.

    Args:
        plan: the profile; the results are those of all its cells that have records.
        chosen: the part of it that is trained now.
        out: see the module.
        jobs: trainings at a time.
        command: for the header of the run.
        worker: makes what runs the trainings of one job.
    """
    trainings = Trainings(plan, out, command, typer.echo)
    try:
        trainings.train_all(chosen.cells(), jobs, lambda: write_results(plan, trainings, out), worker)
    finally:
        write_results(plan, trainings, out)
        trainings.close()
    typer.echo(f"results: {out / 'accuracy.md'}")


def write_results(plan: Plan, trainings: Trainings, out: Path) -> None:
    """Write the page, the summary and the run of the trainings so far."""
    finished = trainings.run()
    results = verdicts.results(plan, {record.case_id: record for record in finished.records})
    summary = {"profile": plan.name, "results": [result.model_dump(mode="json") for result in results]}
    _replace(out / "accuracy.json", json.dumps(benchmark_json.of_stored_run(report_run(plan, finished))))
    _replace(out / "summary.json", json.dumps(summary, indent=1))
    _replace(out / "accuracy.md", page.render(plan, finished, results))


def _replace(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


if __name__ == "__main__":
    restore = ending_signals.install()
    try:
        app()
    except SystemExit as end:
        code = ending_signals.exit_code()
        if code is None:
            raise
        raise SystemExit(code) from end
    finally:
        restore()
