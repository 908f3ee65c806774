"""The gate: whether a commit is slower, larger or worse than another, and the history of runs."""
