"""One serving engine over time: its looks, its restarts, and the intervals between.

Invariant: memory is bounded by the longest window, an interval never spans a restart, and the intervals handed out by
``take`` neither overlap nor leave a gap but across restarts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from llmco2.serving.interval import Interval, Look, has_restarted, interval, is_fine_enough
from llmco2.serving.sample import FINISHED_REQUESTS, GENERATION_TOKENS

LONGEST_WINDOW_S: Final = 600.0
_MOST_LOOKS: Final = 1200
_ENOUGH_REQUESTS: Final = 20  # finished ones, for their mean lengths


class ServerWatch:
    """Takes looks at one engine and hands out intervals."""

    def __init__(self, *, window_s: float = LONGEST_WINDOW_S) -> None:
        self._looks: deque[Look] = deque(maxlen=_MOST_LOOKS)
        self._window_s = window_s
        self._taken: Look | None = None
        self.restarts = 0
        self.last_restart_s: float | None = None

    @property
    def newest(self) -> Look | None:
        """The newest look, or ``None`` before the first."""
        return self._looks[-1] if self._looks else None

    def add(self, look: Look) -> None:
        """Take one look; where the engine restarted since the last, the windows begin again with this one."""
        newest = self.newest
        if newest is not None and look.sample.t_s <= newest.sample.t_s:
            return
        if newest is not None and has_restarted(newest.sample, look.sample):
            self.restarts += 1
            self.last_restart_s = look.sample.t_s
            self._looks.clear()
            self._taken = None
        self._looks.append(look)
        self._taken = self._taken or look
        while look.sample.t_s - self._looks[0].sample.t_s > self._window_s and len(self._looks) > 2:
            self._looks.popleft()

    def take(self, least_s: float) -> Interval | None:
        """Return the interval since the last one taken, once it is ``least_s`` long and its counts are fine enough."""
        newest, taken = self.newest, self._taken
        if newest is None or taken is None or newest.sample.t_s - taken.sample.t_s < max(least_s, 1e-9):
            return None
        too_coarse = not is_fine_enough(taken.sample, newest.sample)
        if too_coarse and newest.sample.t_s - taken.sample.t_s < self._window_s:
            return None
        self._taken = newest
        return interval([taken, *(look for look in self._looks if look.sample.t_s > taken.sample.t_s)])

    def over(self, seconds: float) -> Interval | None:
        """Return the newest interval of about ``seconds``, or longer where the counts need it."""
        looks = list(self._looks)
        if len(looks) < 2:
            return None
        end = looks[-1].sample
        start = next(
            i for i, look in enumerate(looks) if end.t_s - look.sample.t_s <= seconds or i == len(looks) - 2
        )
        while start > 0 and not is_fine_enough(looks[start].sample, end):
            start -= 1
        return interval(looks[start:])

    def lengths(self) -> Interval | None:
        """Return the shortest interval up to now in which enough requests finished to tell their mean lengths."""
        looks: Sequence[Look] = list(self._looks)
        if len(looks) < 2:
            return None
        end = looks[-1].sample.counters
        for start in range(len(looks) - 2, -1, -1):
            begin = looks[start].sample.counters
            if FINISHED_REQUESTS not in begin or FINISHED_REQUESTS not in end:
                break
            if end[FINISHED_REQUESTS].total - begin[FINISHED_REQUESTS].total >= _ENOUGH_REQUESTS:
                return interval(looks[start:])
        return interval(looks)


def is_idle(found: Interval) -> bool:
    """Whether no token was made in an interval."""
    return not found.counts.get(GENERATION_TOKENS)
