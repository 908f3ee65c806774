"""From the records of two runs to verdicts and an exit code."""
