"""The command line: every command is a module with ``add_parser(subparsers)`` and ``run(args) -> int``.

Invariant: only the module of the command that was asked for is imported, so that a prediction never pays for
training or measurement.
"""
