"""The attentions that the harness measures, one file per attention, registered as entry points in pyproject.toml."""
