"""The pytest benchmarks that the profiles run; the wheel has them as ``harness.suites``."""
