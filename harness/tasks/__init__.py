"""Tasks, one file per task: data, metric and baselines. ``harness.core.registry`` finds a task by name."""
