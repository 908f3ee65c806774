"""A training with its progress on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from harness.core.record import TaskResult
from harness.core.spec import TaskSpec
from harness.training.train import train


def train_shown(spec: TaskSpec, checkpoints: Path | None, console: Console | None = None) -> TaskResult:
    """As ``train``, with a bar of the steps of all seeds where ``console`` (standard error) is a terminal.

    pytest catches what a test writes: with its option ``-s`` the bar is seen.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        return train(spec, checkpoints=checkpoints)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console, transient=True) as bars:
        bar = bars.add_task(f"{spec.task}, {spec.attention}, {spec.seeds} seeds", total=spec.seeds * spec.steps)
        return train(spec, lambda done, _: bars.update(bar, completed=done), checkpoints)
