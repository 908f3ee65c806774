"""The ``harness`` command: one file per subcommand, in modules whose names end in ``_command``."""
