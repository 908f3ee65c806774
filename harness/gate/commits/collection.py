"""Which cases a checkout's suites have: asked of its own pytest, which collects them and runs none."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, TypeAdapter, ValidationError

from harness.core.spec import AnySpec
from harness.gate.commits.worktrees import CommitError

LAST_LINES = 15


class Collection(BaseModel):
    """The cases in their order, by id, and the profile that they are of."""

    profile: str
    device: str
    specs: dict[str, AnySpec]


def collect(folder: Path, commit: str, arguments: Sequence[str], env: Mapping[str, str]) -> Collection:
    """Collect.

    Args:
        folder: the checkout.
        commit: its id, for the error.
        arguments: of pytest: suites and the harness's options.
        env: of pytest's process.

    Raises:
        CommitError: its pytest does not collect, or it is of a harness that knows no ``--harness-cases``.
    """
    with tempfile.TemporaryDirectory(prefix="harness-") as scratch:
        answer = Path(scratch) / "cases.json"
        options = ["-p", "harness.pytest_plugin", "--collect-only", "-q", f"--harness-cases={answer}"]
        command = [sys.executable, "-m", "pytest", *options, *arguments]
        done = subprocess.run(command, cwd=folder, env=dict(env), capture_output=True, text=True, errors="replace")
        if done.returncode != 0 or not answer.exists():
            tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-LAST_LINES:])
            raise CommitError(f"commit {commit[:12]}: its suites cannot be collected:\n{tail}")
        found = json.loads(answer.read_text())
        try:
            specs = [TypeAdapter(AnySpec).validate_python(one) for one in found["specs"]]
        except ValidationError as error:
            raise CommitError(f"commit {commit[:12]}: a case that this harness does not know: {error}") from error
    named: dict[str, AnySpec] = {spec.case_id: spec for spec in specs}
    return Collection(profile=found["profile"], device=found["device"], specs=named)
