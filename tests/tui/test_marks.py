"""A mark charges the GPUs of the request and no others; a workload that is measured already is not marked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from llmco2.measurement.meters.meter import Device, Sample
from llmco2_tui.comparison import compare
from llmco2_tui.marks import gpus_of
from llmco2_tui.measured import DECODE, PREFILL, WHOLE
from llmco2_tui.monitor_state import MonitorState

from .conftest import REQUEST, SIZE, Desk, account, entry, footprint, text

H100, L4 = "NVIDIA H100 80GB HBM3", "NVIDIA L4"


def device(index: int, name: str = H100, *, simulated: bool = False) -> Device:
    return Device(
        index=index,
        nvml_index=index,
        uuid=f"GPU-{index}",
        name=name,
        mig=False,
        total_memory_bytes=None,
        power_limit_w=700.0,
        has_energy_counter=True,
        simulated=simulated,
    )


def reading(t_s: float, *watts: float | None) -> list[Sample]:
    """One sampling of GPUs that each draw the same power all the time."""
    return [
        Sample(
            t_s=t_s,
            gpu_index=index,
            energy_counter_j=None if power is None else power * t_s,
            power_w=power,
            power_limit_w=700.0,
        )
        for index, power in enumerate(watts)
    ]


def sitting_of(*devices: Device, tensor_parallel: int = 1) -> MonitorState:
    sitting = MonitorState(account("FRA"), replace(REQUEST, tensor_parallel=tensor_parallel))
    sitting.begin(devices)
    return sitting


TWO, EIGHT = [device(0), device(1)], [device(index) for index in range(8)]


@pytest.mark.parametrize(
    ("tensor_parallel", "devices", "chosen", "gpus"),
    [
        (1, [device(0)], None, (0,)),
        (2, TWO, None, (0, 1)),
        (1, EIGHT, 3, (3,)),
        (4, EIGHT, 2, (2, 3, 4, 5)),
        (1, [device(0, L4), device(1)], None, (1,)),
        (1, EIGHT, None, "takes 1 of 8 GPUs: choose the first of them"),
        (4, EIGHT, 6, "takes 4 GPUs, and 2 follow from GPU 6 on"),
        (4, TWO, None, "takes 4 GPUs, and 2 of its kind are watched"),
        (1, [device(0, L4)], None, "is for H100-SXM5-80GB, and what is watched is NVIDIA L4"),
        (1, [], None, "what is watched is no GPU"),
    ],
)
def test_which_gpus_a_request_runs_on(
    tensor_parallel: int, devices: list[Device], chosen: int | None, gpus: tuple[int, ...] | str
) -> None:
    found = gpus_of(replace(REQUEST, tensor_parallel=tensor_parallel), devices, chosen)
    if isinstance(gpus, str):
        assert isinstance(found, str)
        assert gpus in found
    else:
        assert found == gpus


def test_one_gpu_of_eight_is_charged() -> None:
    sitting = sitting_of(*EIGHT)
    sitting.choose(4)  # GPU 3
    powers = [100.0 * (index + 1) for index in range(7)] + [600.0]
    sitting.read(reading(0.0, *powers))
    assert sitting.mark().startswith("marked the start of one batch on GPU 3;")
    for second in range(1, 6):
        sitting.read(reading(float(second), *powers))
    assert "measured on GPU 3" in sitting.mark()
    (marked,) = sitting.entries
    assert marked.energy_j == pytest.approx(5 * 400.0)
    assert marked.time_s == 5.0
    assert marked.phase == WHOLE


def test_a_mark_is_taken_back() -> None:
    sitting = sitting_of(device(0))
    sitting.read(reading(0.0, 300.0))
    assert sitting.undo_mark() == "nothing was marked"
    sitting.mark()
    assert sitting.undo_mark() == "took back the start of the batch"
    sitting.mark()
    sitting.read(reading(1.0, 300.0))
    sitting.mark()
    assert len(sitting.entries) == 1
    assert sitting.undo_mark() == "took back the last batch that was marked"
    assert sitting.entries == []


def test_a_mark_without_energy_is_refused() -> None:
    sitting = sitting_of(device(0), device(1), tensor_parallel=2)
    sitting.read(reading(0.0, 300.0, None))
    assert sitting.mark() == "nothing was marked: GPU 1 gives no energy reading"
    sitting.read(reading(1.0, 300.0, 300.0))
    sitting.mark()
    assert (
        sitting.mark() == "the batch is still open: no reading has come since the first mark: wait a moment"
    )
    lost = [replace(sample, stale_since_s=1.0) for sample in reading(2.0, 300.0, 300.0)]
    sitting.read(lost)
    assert sitting.mark() == "the batch is still open: GPU 0 is lost"


def test_a_workload_that_is_measured_already_is_not_marked() -> None:
    sitting = MonitorState(account("FRA"))
    sitting.begin([device(0)])
    sitting.read(reading(0.0, 300.0))
    sitting.measured(REQUEST, [entry(DECODE, 1.0, 600.0)])
    assert sitting.mark() == "nothing to mark: this workload is measured already"
    sitting.type_in(REQUEST)
    assert sitting.mark().startswith("marked the start")


def test_a_workload_that_nobody_measures_may_be_marked() -> None:
    sitting = MonitorState(account("FRA"))
    sitting.begin([device(0)])
    sitting.read(reading(0.0, 300.0))
    sitting.measured(REQUEST, [])
    for second in (1.0, 2.0, 3.0):
        assert sitting.mark().startswith("marked")
        sitting.read(reading(second, 300.0))
    assert len(sitting.entries) == 1


def test_zero_leaves_nothing_behind() -> None:
    sitting = MonitorState(account("FRA"))
    sitting.begin([device(0)])
    for second in range(10):
        sitting.read(reading(float(second), 300.0))
    sitting.measured(REQUEST, [replace(entry(DECODE, 5.0, 600.0), time_s=2.0)])
    sitting.mark()
    sitting.zero()
    assert sitting.entries == []
    assert sitting.marks == []
    assert sitting.totals().energy_j is None
    across = replace(entry(DECODE, 10.0, 600.0), time_s=2.0)  # it began at 8 s, before the zero at 9 s
    after = replace(entry(DECODE, 12.0, 500.0), time_s=2.0)
    sitting.measured(REQUEST, [across, after])
    assert sitting.entries == [after]
    sitting.read(reading(10.0, 300.0))
    sitting.read(reading(11.0, 300.0))
    assert sitting.totals().energy_j == 300.0


def test_configurations_are_never_summed_under_one_label() -> None:
    other, third = replace(REQUEST, batch_size=32), replace(REQUEST, engine="vllm")
    entries = [
        entry(DECODE, 1.0, 600.0),
        replace(entry(DECODE, 2.0, 5000.0), request=other),
        replace(entry(DECODE, 3.0, 7000.0), request=third),
        entry(DECODE, 4.0, 620.0),
    ]
    answers = {asked: footprint(asked) for asked in (REQUEST, other, third)}
    view = compare(REQUEST, entries, answers, account("FRA"))
    assert view.total is not None
    assert view.total.energy.measured == 1220.0
    assert view.batches == 2.0
    assert view.others == 2
    assert view.n_requests == 1


def test_the_load_of_one_server_is_summed_under_its_name() -> None:
    heavier = replace(REQUEST, batch_size=16)
    entries = [
        replace(entry(WHOLE, 1.0, 700.0), group="http://here:8000"),
        replace(entry(WHOLE, 2.0, 1400.0), group="http://here:8000", request=heavier),
        replace(entry(WHOLE, 3.0, 9999.0), group="http://there:8000"),
        entry(WHOLE, 4.0, 5000.0),
    ]
    answers = {asked: footprint(asked) for asked in (REQUEST, heavier)}
    view = compare(heavier, entries, answers, account("FRA"))
    assert view.total is not None
    assert view.total.energy.measured == 2100.0
    assert view.total.energy.predicted == 2100.0
    assert view.n_requests == 2
    assert view.others == 2


def test_a_simulated_measurement_judges_nothing() -> None:
    entries = [
        replace(entry(PREFILL, 1.0, 5.0), simulated=True),
        replace(entry(DECODE, 2.0, 5.0), simulated=True),
    ]
    view = compare(REQUEST, entries, {REQUEST: footprint(REQUEST)}, account("FRA"))
    assert view.simulated
    assert view.verdict == "SIMULATED measurement: it judges no prediction"
    for row in view.rows:
        assert row.energy.measured is not None
        for quantity in (row.energy, row.carbon, row.energy_per_token, row.carbon_per_token):
            assert quantity is not None
            assert quantity.error_percent is None
            assert quantity.place is None


async def test_u_takes_back_what_m_marked(desk: Desk) -> None:
    app = desk.app(request=REQUEST)
    async with app.run_test(size=SIZE) as pilot:
        await desk.pass_s(pilot, 1)
        await pilot.press("m")
        await desk.pass_s(pilot, 2)
        await pilot.press("m", "2")
        assert "1 batch measured" in text(app, "#comparison")
        await pilot.press("u")
        assert "nothing measured yet" in text(app, "#comparison")
