"""``python -m benchmarks.release``: fit the checkpoint that ships."""

from __future__ import annotations

import sys

from benchmarks.command_line import exit_code
from benchmarks.release.release import main

if __name__ == "__main__":
    sys.exit(exit_code(main))
