"""Charts of a minute and of a day come from the same readings, in memory that does not grow."""

from __future__ import annotations

import tracemalloc

import pytest

from llmco2_tui.history import SPANS, History


def test_a_constant_is_a_constant_at_every_span() -> None:
    history = History()
    for second in range(3 * 3600):
        history.add(1000.0 + second, 250.0)
    for span in range(len(SPANS)):
        known = [value for value in history.columns(span, 60) if value is not None]
        assert known == pytest.approx([250.0] * len(known))
    assert None not in history.columns(2, 60)
    assert sum(value is None for value in history.columns(4, 24)) == 21  # three hours of a day


def test_columns_are_means_of_their_time() -> None:
    history = History()
    for second in range(60):
        history.add(float(second), 100.0 if second < 30 else 300.0)
    columns = history.columns(0, 6)
    assert columns == pytest.approx([100.0, 100.0, 100.0, 300.0, 300.0, 300.0])


def test_a_slow_reading_is_held_and_a_silence_is_a_gap() -> None:
    history = History()
    for second in (0, 5, 10):
        history.add(float(second), 100.0)
    assert history.columns(0, 60)[-11:] == [100.0] * 11
    history = History()
    for second in (0, 1, 2, 30, 31):
        history.add(float(second), 100.0)
    columns = history.columns(0, 60)
    assert columns[-1] == columns[-2] == 100.0
    assert columns[-15] is None


def test_time_never_goes_back() -> None:
    history = History()
    history.add(10.0, 100.0)
    history.add(5.0, 900.0)
    assert [value for value in history.columns(0, 10) if value is not None] == [100.0]


def test_a_day_takes_no_more_memory_than_an_hour() -> None:
    tracemalloc.start()
    history = History()
    for second in range(3600):
        history.add(float(second), 100.0)
    hour = tracemalloc.get_traced_memory()[0]
    for second in range(3600, 20_000):
        history.add(float(second), 100.0)
    grown = tracemalloc.get_traced_memory()[0] - hour
    tracemalloc.stop()
    assert grown < 2000
