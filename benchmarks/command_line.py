"""How the commands of this package end: an exit code, and one line on standard error for what was wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from llmco2.errors import InputError, LLMCO2Error

EXIT_FAILURE: Final = 1
EXIT_INPUT: Final = 2


def exit_code(command: Callable[[], int]) -> int:
    """Run ``command`` and return its exit code: 2 where its input was wrong, 1 where something else failed."""
    try:
        return command()
    except LLMCO2Error as error:
        print(f"benchmarks: {' '.join(str(error).split())}", file=sys.stderr)
        return EXIT_INPUT if isinstance(error, InputError) else EXIT_FAILURE
