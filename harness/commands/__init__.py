"""The ``harness`` command: one file a subcommand."""
