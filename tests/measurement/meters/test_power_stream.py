import threading

import pytest

from llmco2.errors import InputError, MeasurementError
from llmco2.measurement.meters.power_stream import NvmlSampler, wait_for_first
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu, SimulatedNvml


@pytest.fixture
def meter(rig: SimulatedNvml):
    with ZeusMeter(clock=rig.clock, windows=False) as made:
        yield made


@pytest.mark.parametrize("rate_hz", [0.1, 1.0, 10.0, 50.0])
def test_samples_come_at_the_asked_rate(rig, meter, rate_hz):
    with NvmlSampler(meter, rate_hz, clock=rig.clock) as sampler:
        rig.clock.sleep(20.5 / rate_hz)
        taken = sampler.drain()
    times = [samples[0].t_s for samples in taken]
    assert times == pytest.approx([k / rate_hz for k in range(21)])


@pytest.mark.parametrize("rate_hz", [0.0, 0.05, 51.0, float("nan"), -1.0])
def test_other_rates_are_refused(rig, meter, rate_hz):
    with pytest.raises(
        InputError, match=r"the sampling rate is out of range: got .* Hz, expected 0\.1 to 50 Hz"
    ):
        NvmlSampler(meter, rate_hz, clock=rig.clock)


def test_a_reader_that_misses_samples_loses_no_joule(rig, meter):
    with NvmlSampler(meter, 10.0, clock=rig.clock) as sampler:
        first = sampler.latest()[0]
        for watts in (100.0, 500.0, 250.0):
            rig.set_power(0, watts)
            rig.clock.sleep(10.0)
        last = sampler.latest()[0]
    true_j = rig.true_energy_j(0, first.t_s, last.t_s)
    assert true_j > 8000.0
    assert last.energy_counter_j - first.energy_counter_j == pytest.approx(true_j, rel=0.002)


def test_a_slow_reader_keeps_the_newest_and_memory_stays_flat(rig, meter):
    with NvmlSampler(meter, 50.0, clock=rig.clock) as sampler:
        rig.clock.sleep(60.001)
        taken = sampler.drain()
        assert len(taken) == 1024
        assert taken[-1][0].t_s == pytest.approx(60.0, abs=0.021)
        assert sampler.drain() == []


def test_a_rate_can_be_changed_while_it_runs(rig, meter):
    with NvmlSampler(meter, 1.0, clock=rig.clock) as sampler:
        rig.clock.sleep(1.0)
        sampler.set_rate(10.0)
        rig.clock.sleep(2.0)
        assert [samples[0].t_s for samples in sampler.drain()][:4] == pytest.approx([0.0, 1.0, 2.0, 2.1])


def test_a_gpu_lost_mid_session_is_shown_stale_and_comes_back(make_rig):
    rig = make_rig(SimulatedGpu(), SimulatedGpu())
    with (
        ZeusMeter(clock=rig.clock, windows=False) as meter,
        NvmlSampler(meter, 1.0, clock=rig.clock) as sampler,
    ):
        rig.lose(1, at_s=2.5)
        rig.find(1, at_s=5.5)
        rig.clock.sleep(7.0)
        taken = sampler.drain()
    stale = [samples[1].stale_since_s for samples in taken]
    assert stale == [None, None, None, 2.0, 2.0, 2.0, None, None]
    assert all(samples[0].stale_since_s is None for samples in taken)
    assert taken[4][1].why_missing("gpu") == "GPU 1 is lost: the GPU has fallen off the bus"


def test_a_meter_that_was_closed_is_a_failure_and_not_the_end(rig):
    meter = ZeusMeter(clock=rig.clock, windows=False)
    with NvmlSampler(meter, 1.0, clock=rig.clock) as sampler:
        meter.close()
        rig.clock.sleep(3.0)
        assert sampler.n_failures == 3
        assert "the meter is closed" in sampler.failure
        assert len(sampler.latest()) == 1


def test_the_listener_gets_every_sampling(rig, meter):
    heard = []
    with NvmlSampler(meter, 5.0, clock=rig.clock, listener=heard.append):
        rig.clock.sleep(1.0)
    assert len(heard) == 6


def test_in_real_time_a_thread_feeds_an_iteration_that_stopping_ends(make_rig):
    make_rig(virtual_time=False)
    with ZeusMeter(windows=False) as meter, NvmlSampler(meter, 50.0) as sampler:
        assert wait_for_first(sampler, timeout_s=20.0)[0].power_w == 70.0
        seen = []

        def read() -> None:
            seen.extend(samples for _, samples in zip(range(5), sampler, strict=False))

        reader = threading.Thread(target=read)
        reader.start()
        reader.join(timeout=20.0)
        assert len(seen) == 5
        sampler.stop()
        sampler.drain()
        assert list(sampler) == []


def test_waiting_for_a_reading_that_never_comes_ends_with_the_reason(rig):
    meter = ZeusMeter(clock=rig.clock, windows=False)
    meter.close()
    with (
        NvmlSampler(meter, 1.0, clock=rig.clock) as sampler,
        pytest.raises(MeasurementError, match="no reading came: got the meter is closed"),
    ):
        wait_for_first(sampler, timeout_s=0.05)
