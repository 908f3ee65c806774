"""Whole runs of ``harness ab`` that compare the latest commit with itself: how long they take, and their outcome.

``python -m suites.studies.gate_proof.live OUT`` measures one run, which takes about a quarter of an hour, and adds
it to the runs in OUT.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from harness.core import store
from harness.core.record import Run
from harness.gate.judge.case_rows import KINDS

COMMAND = ("harness", "ab", "HEAD", "HEAD", "--", "suites", "--profile", "quick")
SUMMARY_LINES = ("measured on", "first pass", "round", "time limit", *(kind.capitalize() for kind in KINDS))
"""Beginnings of the output lines that are about the whole run, not about one case."""


def row(run: Run, lines: Sequence[str], seconds: float, exit_code: int) -> dict[str, Any]:
    """One run as a row of the JSON.

    Args:
        run: base's run, as ``ab`` stored it.
        lines: the lines that ``ab`` printed.
        seconds: duration of the whole command, including checkouts, builds and the collection of cases.
        exit_code: of the command.
    """
    return {
        "started": run.started,
        "commit": run.commit,
        "machine": run.machine,
        "seconds": round(seconds),
        "exit_code": exit_code,
        "said": [line.strip() for line in lines if line.startswith(SUMMARY_LINES)],
    }


def main(
    out: Annotated[Path, typer.Argument(help="JSON file; its existing runs are kept")],
    times: Annotated[int, typer.Option(help="runs, one after the other", min=1)] = 1,
) -> None:
    """Measure runs and add them to the file."""
    out.parent.mkdir(parents=True, exist_ok=True)
    runs: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))["runs"] if out.exists() else []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as folder:
            program = str(Path(sys.executable).with_name(COMMAND[0]))
            began = monotonic()
            done = subprocess.run(
                [program, *COMMAND[1:4], "--out", folder, *COMMAND[4:]], capture_output=True, text=True, check=False
            )
            seconds = monotonic() - began
            try:
                run = store.load(Path(folder) / "base.json")
            except store.StoreError as error:
                raise SystemExit(f"{error}\n{done.stdout}{done.stderr}") from error
        runs.append(row(run, done.stdout.splitlines(), seconds, done.returncode))
        out.write_text(json.dumps({"command": " ".join(COMMAND), "runs": runs}, indent=1) + "\n", encoding="utf-8")
        typer.echo(f"{seconds:.0f} s, exit code {done.returncode}: {out}")


if __name__ == "__main__":
    typer.run(main)
