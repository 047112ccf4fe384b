"""One finding about this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check saw, and how to mend it where that is needed."""

    name: str
    status: str  # OK | WARN | FAIL
    found: str
    fix: str = ""
    gpu_index: int | None = None  # NVML's index, where the finding is about one GPU
