"""Tasks: data, metric and baselines, one file a task. A task is found by name through ``harness.core.registry``."""
