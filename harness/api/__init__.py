"""The harness called from Python: ``harness.compare`` for functions, and ``harness.run`` for a list of cases."""
