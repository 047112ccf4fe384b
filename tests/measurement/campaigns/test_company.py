"""Who else is on the GPUs is asked again at each configuration; what the driver does not say is not "nobody"."""

from __future__ import annotations

from collections.abc import Callable

import pynvml
import pytest

from llmco2.errors import MeasurementError
from llmco2.measurement.campaigns.campaign import run_campaign
from llmco2.measurement.campaigns.campaign_file import Campaign
from llmco2.measurement.campaigns.plan import MeasurePlan
from llmco2.measurement.campaigns.row import company_flags
from llmco2.measurement.campaigns.run_log import RunLog, read_runs
from llmco2.measurement.campaigns.runner import GIVE_UP_AFTER
from llmco2.measurement.doctor.gpu_findings import _mig, _processes
from llmco2.measurement.meters.meter import MIG_UNKNOWN, SHARING_UNKNOWN
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.simulation.rig import SimulatedGpu
from llmco2.measurement.workloads.configuration import RunConfiguration


def campaign(n: int) -> Campaign:
    configurations = tuple(
        RunConfiguration(model="m", batch_size=size, prompt_tokens=100, output_tokens=11)
        for size in range(1, n + 1)
    )
    return Campaign(name="test", configurations=configurations, plan=MeasurePlan())


class Company:
    """Has something happen to the machine when its meter looks for the ``at``-th time."""

    def __init__(self, machine, happen: Callable[[object], None], at: int) -> None:
        self._open, self._happen, self._at, self._looks = machine.open_meter, happen, at, 0
        machine.open_meter = self.open_meter

    def open_meter(self, gpus: int):
        meter = self._open(gpus)
        look = meter.look_again

        def look_again():
            self._looks += 1
            if self._looks >= self._at:
                self._happen(meter)
            return look()

        meter.look_again = look_again
        return meter


def be_shared(meter) -> None:
    meter._shared = True


def run(path, machine, n=6, **options):
    with RunLog(path) as log:
        return run_campaign(campaign(n), log, machine.tools(), **options)


def test_a_stranger_who_comes_later_fails_what_follows_and_ends_the_campaign(tmp_path, machine) -> None:
    Company(machine, be_shared, at=5)  # one look at the start, and three for each configuration
    summary = run(tmp_path / "runs.jsonl", machine)
    rows = read_runs(tmp_path / "runs.jsonl")
    assert [row.status for row in rows] == ["ok", *["failed"] * GIVE_UP_AFTER]
    assert all(row.failure_reason.startswith("shared: other processes are on the GPU") for row in rows[1:])
    assert summary.stopped_because is not None
    assert summary.left == 6 - len(rows)


def test_a_stranger_who_comes_in_the_middle_spoils_that_row(tmp_path, machine) -> None:
    Company(machine, be_shared, at=3)  # after the first configuration was measured
    run(tmp_path / "runs.jsonl", machine, n=1)
    (row,) = read_runs(tmp_path / "runs.jsonl")
    assert row.status == "failed"
    assert row.energy_j is None


def test_a_stranger_who_is_allowed_flags_the_row_that_he_came_in(tmp_path, machine) -> None:
    Company(machine, be_shared, at=3)
    run(tmp_path / "runs.jsonl", machine, n=1, allow_shared=True)
    (row,) = read_runs(tmp_path / "runs.jsonl")
    assert row.status == "ok"
    assert "shared_gpu" in row.flags


def refuse(error: int) -> Callable[..., None]:
    def call(*_: object) -> None:
        raise pynvml.NVMLError(error)

    return call


@pytest.mark.parametrize("error", [pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_UNKNOWN])
def test_what_the_driver_refuses_to_say_is_not_known(rig, monkeypatch, error) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", refuse(error))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMigMode", refuse(error))
    with ZeusMeter(clock=rig.clock) as meter:
        (device,) = meter.look_again()
        assert device.shared is None
        assert device.mig is None
        assert company_flags([device]) == (SHARING_UNKNOWN, MIG_UNKNOWN)
        found = [_processes(device, meter._watched[0].gpu).found, _mig(device).found]
    assert all(words.startswith("not known: the driver does not say") for words in found)


def test_a_gpu_that_cannot_be_cut_is_not_cut(rig, monkeypatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMigMode", refuse(pynvml.NVML_ERROR_NOT_SUPPORTED))
    with ZeusMeter(clock=rig.clock) as meter:
        assert meter.look_again()[0].mig is False
        assert company_flags(meter.devices()) == ()


def test_the_meter_sees_who_came_and_who_left(rig) -> None:
    with ZeusMeter(clock=rig.clock) as meter:
        assert meter.look_again()[0].shared is False
        rig.set_process(0, 1)
        assert meter.look_again()[0].shared is True
        assert meter.devices()[0].shared is True


def test_a_driver_that_counts_no_gpus_is_one_line(rig, monkeypatch) -> None:
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", refuse(pynvml.NVML_ERROR_UNKNOWN))
    with pytest.raises(MeasurementError, match="no NVIDIA GPU can be read: NVML error 999") as caught:
        ZeusMeter(clock=rig.clock)
    assert "\n" not in str(caught.value)


def label_of(rig, meter, watts: float, seconds: float = 2.0):
    meter.begin_window("phase")
    rig.set_power(0, watts)
    rig.clock.sleep(seconds)
    return meter.end_window("phase")


@pytest.mark.parametrize("counter", [True, False])
@pytest.mark.parametrize(
    ("watts", "says"), [(900.0, "above its power limit of 700 W"), (0.0, "no GPU that works draws nothing")]
)
def test_power_that_no_gpu_draws_is_no_label(make_rig, counter, watts, says) -> None:
    rig = make_rig(SimulatedGpu(has_counter=counter, idle_power_w=watts))
    with ZeusMeter(clock=rig.clock) as meter:
        reading = label_of(rig, meter, watts)
    assert reading.energy_j is None
    assert says in reading.gpus[0].reason


def test_power_at_the_limit_is_a_label(rig) -> None:
    with ZeusMeter(clock=rig.clock) as meter:
        assert label_of(rig, meter, 700.0).energy_j == pytest.approx(1400.0, rel=0.01)


@pytest.mark.parametrize(("jump_j", "says"), [(1e6, "jumped by 1e+06 J"), (-5.0, "ran back")])
def test_a_counter_that_jumps_spoils_its_window(rig, monkeypatch, jump_j, says) -> None:
    with ZeusMeter(clock=rig.clock) as meter:
        gpu = meter._watched[0].gpu
        read, offset = gpu.energy_counter_j, [1e4]
        monkeypatch.setattr(gpu, "energy_counter_j", lambda: read() + offset[0])
        meter.begin_window("phase")
        rig.clock.sleep(1.0)
        offset[0] += jump_j
        rig.clock.sleep(1.0)
        reading = meter.end_window("phase")
    assert reading.energy_j is None
    assert says in reading.gpus[0].reason
