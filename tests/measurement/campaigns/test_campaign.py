"""A campaign goes on past every failure, resumes where it stopped, and never mixes simulated with real."""

import re
from dataclasses import replace

import pytest

from llmco2.errors import DoesNotFitError, InputError, MeasurementError
from llmco2.measurement.campaigns.campaign import run_campaign
from llmco2.measurement.campaigns.run_log import RunLog, read_runs
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import RequestTiming, WorkloadError, WorkloadFacts
from llmco2.records.run import MeasuredRun
from tests.measurement.campaigns.conftest import (
    STEP_J,
    STEP_S,
    TOKEN_J,
    TokenWorkload,
    batches,
    campaign_of,
    run,
)

MEASURED = [
    "prefill_energy_j",
    "prefill_energy_std_j",
    "decode_energy_j",
    "decode_energy_std_j",
    "energy_j",
    "energy_std_j",
    "ttft_s",
    "tpot_s",
    "latency_s",
    "average_power_w",
    "host_energy_j",
    "repeats",
    "window_s",
    "integrated_energy_j",
    "notes",
]


def test_a_row_carries_label_and_provenance(path, machine):
    summary = run(path, campaign_of(*batches(4)), machine)
    assert (summary.measured, summary.failed, summary.left, summary.stopped_because) == (1, 0, 0, None)
    (row,) = read_runs(path)
    prefill_j, decode_j = 100 * TOKEN_J, 10 * STEP_J
    energies = pytest.approx((prefill_j, decode_j, prefill_j + decode_j))
    assert (row.prefill_energy_j, row.decode_energy_j, row.energy_j) == energies
    assert row.integrated_energy_j == pytest.approx(1.01 * row.energy_j)
    assert row.host_energy_j == pytest.approx(0.1 * row.energy_j)
    assert (row.ttft_s, row.tpot_s, row.latency_s) == pytest.approx((0.05, STEP_S, 0.25))
    assert row.average_power_w == pytest.approx(row.energy_j / row.latency_s)
    assert row.energy_std_j == pytest.approx(0.0, abs=1e-9)
    assert row.window_s == pytest.approx(row.repeats * row.latency_s)
    # windows of 1.2, 1.05 and 1.05 s, 0.05 s each
    assert re.fullmatch(r"prefill repeats 6[5-8]; n", row.notes)
    expected = MeasuredRun(
        run_id=batches(4)[0].run_id(gpu="H100-SXM5-80GB", simulated=True),
        source="test",
        simulated=True,
        flags="cache_copied",
        model="m",
        gpu="H100-SXM5-80GB",
        engine="hf-eager",
        engine_version="engine 1.0",
        precision="bf16",
        batch_size=4.0,
        prompt_tokens=100.0,
        output_tokens=11.0,
        energy_method="counter_slope",
        counter_period_s=0.02,
        idle_power_w=70.0,
        context_idle_power_w=115.0,
        power_limit_w=700.0,
        sm_clock_mhz=1980.0,
        memory_clock_mhz=2619.0,
        temperature_c=50.0,
        gpu_utilization_percent=99.0,
        throttle_reasons="",
        attention_backend="sdpa",
        cuda_graphs=False,
        step_time_batch1_s=STEP_S,
        driver_version="570.1",
        device_name="NVIDIA H100 80GB HBM3",
        measured_at="2026-01-02T03:04:05+00:00",
    )
    measured = {name: getattr(row, name) for name in MEASURED}
    assert row == replace(expected, **measured)


def test_two_gpus_are_summed_and_the_hottest_counts(path, machine):
    run(path, campaign_of(replace(batches(1)[0], tensor_parallel=2)), machine)
    (row,) = read_runs(path)
    assert row.energy_j == pytest.approx(21.0)
    assert row.temperature_c == 51.0
    assert row.sm_clock_mhz == 1979.5
    assert row.n_gpus == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (
            WorkloadError("out_of_memory", "tried to allocate 20 GiB"),
            "out_of_memory: tried to allocate 20 GiB",
        ),
        (
            WorkloadError("server_dead", "the server cannot be reached"),
            "server_dead: the server cannot be reached",
        ),
        (MeasurementError("NVML error 999"), "measurement: NVML error 999"),
        (ZeroDivisionError("a bug in\nan engine"), "unexpected: ZeroDivisionError: a bug in an engine"),
        ("lost", "measurement: GPU 0 is lost: got NVML error 15; reboot the machine"),
    ],
)
def test_a_failing_configuration_has_its_reason_on_record_and_the_rest_goes_on(path, machine, fault, reason):
    machine.faults = {2: fault}
    summary = run(path, campaign_of(*batches(1, 2, 4)), machine)
    assert (summary.measured, summary.failed, summary.left) == (2, 1, 0)
    rows = read_runs(path)
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert rows[1].failure_reason == reason
    assert rows[1].energy_j is None
    assert rows[1].repeats == 0
    assert all(meter.closed for meter in machine.meters)


def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(path, machine):
    def fits(configuration, gpu, memory_bytes):
        assert (gpu, memory_bytes) == ("H100-SXM5-80GB", 80 * 2**30)
        if configuration.batch_size == 2:
            raise DoesNotFitError(
                "m does not fit: got weights 70 + KV cache 20 = 90 GB, expected at most 80 GB"
            )

    machine.fits = fits
    run(path, campaign_of(*batches(1, 2)), machine)
    assert [c.batch_size for c in machine.loads] == [1]
    assert read_runs(path)[1].failure_reason.startswith("does_not_fit: m does not fit: got weights 70")


def test_too_few_gpus_fail_their_configuration_only(path, machine):
    wide = [replace(c, tensor_parallel=8) for c in batches(1, 2, 4, 8)]
    summary = run(path, campaign_of(*wide, *batches(1)), machine)
    assert (summary.measured, summary.failed, summary.stopped_because) == (1, 4, None)
    assert read_runs(path)[0].failure_reason == "refused: too few GPUs: got 2"


def test_a_machine_that_fails_again_and_again_stops_the_campaign(path, machine):
    machine.faults = dict.fromkeys((1, 2, 4, 8, 16), MeasurementError("GPU 0 is lost"))
    summary = run(path, campaign_of(*batches(1, 2, 4, 8, 16)), machine)
    assert (summary.measured, summary.failed, summary.left) == (0, 3, 2)
    assert summary.stopped_because == "the machine failed 3 times in a row: measurement: GPU 0 is lost"
    assert len(machine.meters) == 3  # each failure dropped its driver handle


def test_an_interrupt_leaves_a_valid_file_and_the_next_run_goes_on(path, machine):
    machine.faults = {4: KeyboardInterrupt()}
    summary = run(path, campaign_of(*batches(1, 2, 4, 8)), machine)
    assert (summary.measured, summary.left, summary.stopped_because) == (2, 2, "interrupted")
    assert [row.batch_size for row in read_runs(path)] == [1, 2]
    assert machine.meters[-1].closed
    machine.faults, machine.loads[:] = {}, []
    summary = run(path, campaign_of(*batches(1, 2, 4, 8)), machine)
    assert (summary.measured, summary.left) == (2, 0)
    assert [c.batch_size for c in machine.loads] == [4, 8]
    assert [row.batch_size for row in read_runs(path)] == [1, 2, 4, 8]


def test_an_interrupt_before_the_first_configuration_is_a_stop_like_any(path, machine):
    def interrupted(gpus):
        raise KeyboardInterrupt

    machine.open_meter = interrupted
    summary = run(path, campaign_of(*batches(1, 2)), machine)
    assert (summary.measured, summary.left, summary.stopped_because) == (0, 2, "interrupted")
    assert not path.exists()


def test_failures_are_run_again_only_when_asked(path, machine):
    machine.faults = {2: WorkloadError("server_dead", "gone")}
    run(path, campaign_of(*batches(1, 2)), machine)
    machine.faults, machine.loads[:] = {}, []
    assert run(path, campaign_of(*batches(1, 2)), machine).measured == 0
    assert run(path, campaign_of(*batches(1, 2)), machine, retry_failed=True).measured == 1
    assert [(row.batch_size, row.status) for row in read_runs(path)] == [(1, "ok"), (2, "failed"), (2, "ok")]


def test_another_kind_of_gpu_is_another_configuration(path, machine):
    run(path, campaign_of(*batches(1)), machine)
    machine.device_name = "NVIDIA L4"
    assert run(path, campaign_of(*batches(1)), machine).measured == 1
    assert {row.gpu for row in read_runs(path)} == {"H100-SXM5-80GB", "NVIDIA L4"}


def test_a_shared_gpu_is_refused_unless_asked_and_then_flagged(path, machine):
    machine.shared = True
    with pytest.raises(InputError, match="--allow-shared"):
        run(path, campaign_of(*batches(1)), machine)
    run(path, campaign_of(*batches(1)), machine, allow_shared=True)
    assert read_runs(path)[0].flags == "cache_copied; shared_gpu"


def test_simulated_and_real_rows_never_share_a_file(path, machine):
    run(path, campaign_of(*batches(1)), machine)
    machine.simulated = False
    with pytest.raises(InputError, match="holds simulated runs: got a real campaign"):
        run(path, campaign_of(*batches(2)), machine)


def test_the_bare_idle_of_a_gpu_under_a_server_is_not_known(path, machine):
    server = RunConfiguration(model="m", workload="server", server_url="http://127.0.0.1:1", output_tokens=2)
    run(path, campaign_of(server), machine)
    (row,) = read_runs(path)
    assert row.idle_power_w is None
    assert row.context_idle_power_w == 115.0


def test_a_server_row_takes_its_times_and_tokens_from_the_stream(path, machine, monkeypatch):
    timing = RequestTiming(ttft_s=0.06, latency_s=0.26, output_tokens=9)
    monkeypatch.setattr(TokenWorkload, "decodes_alone", False)
    usual = TokenWorkload.whole
    monkeypatch.setattr(
        TokenWorkload, "whole", lambda self, repeats: usual(self, repeats) or (timing,) * repeats
    )
    monkeypatch.setattr(
        TokenWorkload,
        "load",
        lambda self: setattr(
            self, "facts", WorkloadFacts(prompt_tokens=103.0, output_tokens=9.0, flags=("early_stop",))
        ),
    )
    run(path, campaign_of(*batches(1)), machine)
    (row,) = read_runs(path)
    assert (row.ttft_s, row.tpot_s, row.latency_s) == pytest.approx((0.06, 0.2 / 8, 0.26))
    assert (row.prompt_tokens, row.output_tokens) == (103.0, 9.0)
    assert row.flags == "decode_by_difference; early_stop"
    assert row.decode_energy_j == pytest.approx(10 * STEP_J)


def test_power_at_rest_is_measured_anew_with_each_model_and_not_with_each_size(path, machine):
    usual, asked = machine.tools(), []

    def idle_power_w(meter, bare):
        if not bare:
            asked.append(machine.loads[-1].model)
        return 70.0 if bare else 100.0 + len(asked)

    rest = [replace(c, model="n") for c in batches(1, 2)]
    with RunLog(path) as log:
        run_campaign(
            campaign_of(*batches(1, 2, 4), *rest, *batches(8)), log, replace(usual, idle_power_w=idle_power_w)
        )
    assert asked == ["m", "n", "m"]
    assert [row.context_idle_power_w for row in read_runs(path)] == [101.0, 101.0, 101.0, 102.0, 102.0, 103.0]


def test_power_at_rest_is_asked_again_where_the_gpu_was_busy(path, machine):
    answers = iter([None, 110.0])
    tools = replace(machine.tools(), idle_power_w=lambda meter, bare: 70.0 if bare else next(answers))
    with RunLog(path) as log:
        run_campaign(campaign_of(*batches(1, 2, 4)), log, tools)
    assert [row.context_idle_power_w for row in read_runs(path)] == [None, 110.0, 110.0]
