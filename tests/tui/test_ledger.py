"""Joules come from cumulative counters: whatever is dropped between two readings, none is lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.measurement.meters.meter import Missing, Sample
from llmco2_tui.ledger import GpuLedger, Ledger


def sample(t_s: float, counter_j: float | None, *, gpu: int = 0, **more: object) -> Sample:
    values = {"utilization_percent": 50.0, "power_w": 100.0, "power_limit_w": 700.0, **more}
    return Sample(t_s=t_s, gpu_index=gpu, energy_counter_j=counter_j, **values)  # type: ignore[arg-type]


steps = st.lists(st.floats(0.0, 1400.0), min_size=2, max_size=40)


@given(steps=steps, data=st.data())
def test_dropping_readings_loses_no_joule(steps: list[float], data: st.DataObject) -> None:
    counters = [sum(steps[: place + 1]) for place in range(len(steps))]
    samples = [sample(float(place), counter) for place, counter in enumerate(counters)]
    kept = data.draw(st.lists(st.booleans(), min_size=len(samples) - 2, max_size=len(samples) - 2))
    whole, thin = GpuLedger(), GpuLedger()
    for place, one in enumerate(samples):
        whole.add(one)
        if place in (0, len(samples) - 1) or kept[place - 1]:
            thin.add(one)
    assert thin.energy_j == pytest.approx(whole.energy_j)
    assert thin.energy_j == pytest.approx(counters[-1] - counters[0])


@given(steps=steps, idle=st.data())
def test_idle_and_busy_add_up_to_the_whole(steps: list[float], idle: st.DataObject) -> None:
    ledger = Ledger()
    counter = 0.0
    for place, step in enumerate(steps):
        counter += step
        ledger.add(
            [sample(float(place), counter, utilization_percent=idle.draw(st.sampled_from((0.0, 80.0))))]
        )
    totals = ledger.totals()
    assert totals.energy_j is not None
    assert totals.idle_j is not None
    assert 0.0 <= totals.idle_j <= totals.energy_j + 1e-9


def test_idle_is_what_was_drawn_at_zero_utilisation() -> None:
    ledger = Ledger()
    for t_s, counter, utilization in ((0, 0, 0), (1, 70, 0), (2, 140, 0), (3, 740, 95), (4, 1340, 95)):
        ledger.add([sample(float(t_s), float(counter), utilization_percent=float(utilization))])
    assert ledger.totals().idle_j == 140.0
    assert ledger.totals().energy_j == 1340.0


def test_idle_is_unknown_where_utilisation_is() -> None:
    ledger = Ledger()
    ledger.add([sample(0.0, 0.0, utilization_percent=None)])
    assert ledger.totals().idle_j is None


def test_a_lost_gpu_keeps_its_joules_and_gets_the_rest_when_it_is_back() -> None:
    ledger = GpuLedger()
    ledger.add(sample(0.0, 1000.0))
    ledger.add(sample(1.0, 1300.0))
    gone = (Missing(field="gpu", reason="GPU 0 is lost: it fell off the bus"),)
    ledger.add(sample(2.0, 1300.0, stale_since_s=1.0, missing=gone))
    assert ledger.lost
    assert "fell off the bus" in ledger.why_lost
    assert ledger.energy_j == 300.0
    ledger.add(sample(60.0, 9300.0))
    assert not ledger.lost
    assert ledger.energy_j == 8300.0


def test_a_counter_that_starts_again_is_counted_from_zero_and_said() -> None:
    ledger = GpuLedger()
    for t_s, counter in ((0.0, 5000.0), (1.0, 5300.0), (2.0, 40.0), (3.0, 340.0)):
        ledger.add(sample(t_s, counter))
    assert ledger.energy_j == 300.0 + 40.0 + 300.0
    assert ledger.restarts == 1


def test_a_reading_that_comes_twice_counts_once() -> None:
    ledger = GpuLedger()
    for _ in range(3):
        ledger.add(sample(0.0, 10.0))
        ledger.add(sample(1.0, 30.0))
    assert ledger.energy_j == 20.0


def test_totals_leave_lost_power_out_and_say_what_is_incomplete() -> None:
    ledger = Ledger()
    ledger.add([sample(0.0, 0.0), sample(0.0, 0.0, gpu=1, stale_since_s=-1.0), sample(0.0, None, gpu=2)])
    totals = ledger.totals()
    assert totals.power_w == 200.0
    assert totals.n_lost == 1
    assert totals.incomplete
    assert totals.power_gpus_text == "2 of 3 GPUs"
    assert totals.energy_gpus_text == "1 of 3 GPUs"
