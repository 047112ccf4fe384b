"""How much of a campaign is used up: measured runs count, failed ones only beyond what is spared.

Invariant: what is left never rises, and every attempt beyond the spared failures brings the end nearer, so a
campaign in which everything fails ends, too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class Budget:
    """The wanted runs of a campaign, and what became of those that were tried."""

    runs: int
    spare_failures: int = 0  # so many failed configurations take no run's place
    measured: int = 0
    failed: int = 0

    @property
    def spent(self) -> int:
        """Runs that are used up, of those that were wanted."""
        return min(self.runs, self.measured + max(0, self.failed - self.spare_failures))

    @property
    def left(self) -> int:
        """Runs still to come."""
        return self.runs - self.spent

    def add(self, *, succeeded: bool) -> bool:
        """Take note of a configuration that ended; return whether it used up a run."""
        before = self.spent
        if succeeded:
            self.measured += 1
        else:
            self.failed += 1
        return self.spent > before
