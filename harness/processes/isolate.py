"""One case in a fresh process, so that it can be stopped, or die, without taking the run with it.

``python -m harness.processes.isolate FILE`` is the process: it reads spec and effort as JSON from standard input and
writes the record to FILE. It sees attentions from entry points only, not what ``registry.add`` gave the parent's process.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from harness.core.record import Record
from harness.core.spec import AnySpec, Effort
from harness.processes.protocol import STDERR_LINES, ending, stop

Failure = Callable[[Literal["timeout", "crashed"], list[str]], Record]


def failure_of(spec: AnySpec) -> Failure:
    """What makes the record of a case whose process gave none, from its status and reasons; its time begins now."""
    started, began = datetime.now(UTC), perf_counter()

    def failed(status: Literal["timeout", "crashed"], reasons: list[str]) -> Record:
        return Record(
            case_id=spec.case_id,
            spec=spec,
            status=status,
            reasons=reasons,
            started=started.isoformat(timespec="seconds"),
            took_seconds=perf_counter() - began,
        )

    return failed


def run(spec: AnySpec, effort: Effort, timeout: float | None = None) -> Record:
    """As ``runner.run``, in a process of its own.

    Args:
        spec: the case.
        effort: as for ``runner.run``.
        timeout: seconds, start-up of the process included; None: as long as it takes.

    Returns:
        Its record; or one of status timeout if it was stopped, or crashed, with the signal and the end of its standard
        error, if it died without a record.
    """
    failed = failure_of(spec)
    with tempfile.TemporaryDirectory(prefix="harness-") as folder:
        answer = Path(folder) / "record.json"
        task = json.dumps({"spec": spec.model_dump(), "effort": asdict(effort)})
        command = [sys.executable, "-m", "harness.processes.isolate", str(answer)]
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,  # so that what it starts is stopped with it
        ) as process:
            try:
                _, said = process.communicate(task, timeout)
            except subprocess.TimeoutExpired:
                return failed("timeout", [f"stopped after {timeout:g} s"])
            finally:
                stop(process)
        try:
            return Record.model_validate_json(answer.read_bytes())
        except (FileNotFoundError, ValidationError):
            tail = said.strip().splitlines()[-STDERR_LINES:]
            return failed("crashed", [ending(process.returncode), *tail])


def main() -> None:
    """The process of one case."""
    from harness.cases import runner  # torch: not for the parent's import

    task = json.load(sys.stdin)
    spec: AnySpec = TypeAdapter(AnySpec).validate_python(task["spec"])
    record = runner.run(spec, Effort(**task["effort"]))
    Path(sys.argv[1]).write_text(record.model_dump_json())


if __name__ == "__main__":
    main()
