"""``llmco2 train fit|validate|test|predict``: hand the arguments to the training command line untouched."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the training command line on ``argv`` and return its exit code."""
    from llmco2.training import cli  # noqa: PLC0415 - loads torch and lightning, seconds

    return int(cli.main(list(argv)) or 0)
