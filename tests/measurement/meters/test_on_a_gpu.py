"""What only a real GPU can show; run by ``make test-gpu``."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from llmco2.measurement.meters.idle import measure_idle
from llmco2.measurement.meters.meter import COUNTER_SLOPE, WindowReading
from llmco2.measurement.meters.zeus_devices import forget_zeus_devices
from llmco2.measurement.meters.zeus_meter import ZeusMeter, open_meter

# What a release of torch or CUDA warns of is nothing that is checked here.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

Work = Callable[[int], None]


@pytest.fixture(scope="module")
def torch() -> Any:
    module = pytest.importorskip("torch", reason="torch is not installed")
    if not module.cuda.is_available():
        pytest.skip("torch sees no CUDA GPU")
    return module


@pytest.fixture
def meter(torch: Any) -> Iterator[ZeusMeter]:
    forget_zeus_devices()
    with open_meter() as made:
        yield made


@pytest.fixture
def work(torch: Any) -> Work:
    """Return a function that multiplies matrices a number of times and waits for the end."""
    left, right = (torch.randn(4096, 4096, device="cuda", dtype=torch.float16) for _ in range(2))

    def run(n_times: int) -> None:
        for _ in range(n_times):
            torch.mm(left, right)
        torch.cuda.synchronize()

    run(200)
    return run


def times_for(work: Work, seconds: float) -> int:
    """Return how many multiplications take ``seconds``."""
    start_s = time.monotonic()
    work(200)
    return max(1, int(200 * seconds / (time.monotonic() - start_s)))


def measured(meter: ZeusMeter, work: Work, n_times: int) -> WindowReading:
    meter.begin_window("work")
    work(n_times)
    return meter.end_window("work")


def test_the_counter_ticks_as_often_as_is_known_of_boards(meter):
    for device in meter.devices():
        assert not device.simulated
        assert device.has_energy_counter
        assert 0.0 < device.counter_period_s < 0.2


def test_counter_and_integrated_power_agree_within_5_percent(meter, work):
    reading = measured(meter, work, times_for(work, 10.0))
    gpu = reading.gpus[0]
    assert gpu.method == COUNTER_SLOPE
    assert gpu.integrated_energy_j == pytest.approx(gpu.energy_j, rel=0.05)
    assert gpu.counter_window_energy_j == pytest.approx(gpu.energy_j, rel=0.05)


def test_parts_add_up_to_the_whole_within_3_percent(meter, work):
    n_times = times_for(work, 5.0)
    meter.begin_window("whole")
    parts = [measured(meter, work, n_times) for _ in range(3)]
    whole = meter.end_window("whole")
    assert sum(part.energy_j for part in parts) == pytest.approx(whole.energy_j, rel=0.03)


def test_repeats_spread_by_at_most_3_percent(meter, work):
    n_times = times_for(work, 5.0)
    measured(meter, work, 2 * n_times)  # until clocks and temperature settle
    energies = [measured(meter, work, n_times).energy_j for _ in range(5)]
    assert statistics.stdev(energies) / statistics.fmean(energies) <= 0.03


def test_watching_costs_at_most_1_percent_of_time_and_energy(meter, work):
    n_times = times_for(work, 5.0)
    measured(meter, work, 2 * n_times)
    counter_j = meter._watched[0].gpu.energy_counter_j
    alone: list[tuple[float, float]] = []
    watched: list[tuple[float, float]] = []
    for _ in range(4):
        start_s, start_j = time.monotonic(), counter_j()
        work(n_times)
        alone.append((time.monotonic() - start_s, counter_j() - start_j))
        start_s, start_j = time.monotonic(), counter_j()
        measured(meter, work, n_times)
        watched.append((time.monotonic() - start_s, counter_j() - start_j))
    for mine, theirs in zip(zip(*watched, strict=True), zip(*alone, strict=True), strict=True):
        assert statistics.median(mine) <= 1.01 * statistics.median(theirs)


def test_a_gpu_at_rest_draws_less_than_half_of_its_limit(meter):
    time.sleep(5.0)
    idle = measure_idle(meter)[0]
    assert idle.context_w is not None
    assert 5.0 < idle.context_w < 0.5 * meter.devices()[0].power_limit_w
