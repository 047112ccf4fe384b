"""The protocol of a kernel that can be launched, and what it can say of itself.

Invariant: a call returns when the device has nothing left to do, so that a window may close right behind it.
What is repeated is a cycle: every set of operands once, or more often where one pass is too short to time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

WARM_CACHE: Final = "warm_cache"  # a cold cache was asked for, and the operands are too small to be rotated
LAUNCHED_EAGERLY: Final = "launched_eagerly"  # no graph could be captured: the host launched each time


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFacts:
    """What decides a launch, as far as the kernel knows it."""

    implementation: str | None = None  # "torch_linear", "torch_sdpa_flash_attention" …
    engine_version: str | None = None
    cuda_graphs: bool | None = None
    cold_cache: bool | None = None
    flags: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class Kernel(Protocol):
    """One shape, ready to be launched again and again."""

    @property
    def launches_per_cycle(self) -> int:
        """Launches in one cycle; known after :meth:`load`."""
        ...

    @property
    def facts(self) -> KernelFacts:
        """What is known of the kernel once :meth:`load` has returned."""
        ...

    def load(self) -> None:
        """Make the operands and launch for the first time."""
        ...

    def run(self, cycles: int) -> None:
        """Launch through the operands ``cycles`` times and wait for the end."""
        ...

    def close(self) -> None:
        """Let go of device memory; also after a failure, and twice without harm."""
        ...
