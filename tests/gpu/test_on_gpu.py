"""What only a GPU can show (``make test-gpu``): the label's own error budget, and the command on a real one.

Run it on a GPU that nobody else uses. It takes some minutes.
"""

import json
import statistics
import time

import pytest

from llmco2.cli.main import main
from llmco2.measurement.campaigns.run_log import read_runs
from llmco2.measurement.workloads.configuration import RunConfiguration
from llmco2.measurement.workloads.workload import WorkloadError

# What a release of torch or CUDA warns of is nothing that is checked here.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

SHAPE = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 2048,
    "intermediate_size": 8192,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}  # about 1.1e9 parameters
OBSERVED_S = 10.0  # the energy counter's own step is under 1 % of this


@pytest.fixture(scope="module")
def model_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "config.json"
    path.write_text(json.dumps(SHAPE))
    return path


@pytest.fixture(scope="module")
def configuration(model_path):
    return RunConfiguration(
        model="gpu-check", model_path=str(model_path), batch_size=8, prompt_tokens=1024, output_tokens=65
    )


def workload_of(configuration, clock):
    from llmco2.measurement.workloads.transformers_workload import TransformersWorkload  # noqa: PLC0415

    workload = TransformersWorkload(configuration, clock=clock, device="cuda")
    workload.load()
    return workload


@pytest.fixture(scope="module")
def measured(configuration):
    """Return the labels of one configuration, measured once for all claims about them."""
    from llmco2.measurement.campaigns.phases import measure_phases  # noqa: PLC0415
    from llmco2.measurement.campaigns.plan import MeasurePlan  # noqa: PLC0415
    from llmco2.measurement.meters.zeus_meter import ZeusMeter  # noqa: PLC0415

    with ZeusMeter(environ={"CUDA_VISIBLE_DEVICES": "0"}) as meter:
        workload = workload_of(configuration, meter.clock)
        try:
            plan = MeasurePlan(blocks=3, warm_up_limit_s=20.0)
            yield measure_phases(workload, meter, plan, output_tokens=configuration.output_tokens)
        finally:
            workload.close()


def test_counter_and_integrated_power_agree_within_5_percent(measured):
    for reading in (*measured.prefill.readings, *measured.decode.readings, *measured.whole.readings):
        assert reading.integrated_energy_j == pytest.approx(reading.energy_j, rel=0.05), reading.name
    assert not measured.whole.readings[0].simulated


def test_parts_and_whole_agree_within_3_percent(measured):
    parts_j = measured.prefill.energy_j + measured.decode.energy_j
    assert parts_j == pytest.approx(measured.whole.energy_j, rel=0.03)
    assert "parts_disagree" not in measured.flags


def test_repeats_spread_at_most_3_percent(measured):
    for label in (measured.prefill, measured.decode, measured.whole):
        assert label.energy_std_j <= 0.03 * label.energy_j


def test_every_window_spans_50_counter_periods(measured):
    for label in (measured.prefill, measured.decode, measured.whole):
        for reading in label.readings:
            assert reading.duration_s >= 50 * reading.counter_period_s


def test_prefill_draws_more_than_decode_and_both_stay_under_the_limit(measured):
    limit_w = measured.whole.readings[0].gpus[0].power_limit_w
    prefill_w = measured.prefill.energy_j / measured.prefill.time_s
    decode_w = measured.decode.energy_j / measured.decode.time_s
    assert decode_w < prefill_w < 1.1 * limit_w


def test_observing_costs_at_most_1_percent_of_time_and_energy(configuration):
    """Alternate runs with and without an open meter; the joules of both come from two bare counter reads."""
    import pynvml  # noqa: PLC0415

    from llmco2.measurement.meters.clock import MonotonicClock  # noqa: PLC0415
    from llmco2.measurement.meters.zeus_meter import ZeusMeter  # noqa: PLC0415

    workload = workload_of(configuration, MonotonicClock())
    workload.whole(20)
    began_s = time.monotonic()
    workload.whole(5)
    repeats = max(1, round(OBSERVED_S / ((time.monotonic() - began_s) / 5)))
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)

    def cost():
        start_j = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        start_s = time.monotonic()
        workload.whole(repeats)
        seconds = time.monotonic() - start_s
        return seconds, pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start_j

    alone, observed = [], []
    try:
        for _ in range(4):
            alone.append(cost())
            with ZeusMeter(environ={"CUDA_VISIBLE_DEVICES": "0"}) as meter:
                meter.begin_window("observed")
                observed.append(cost())
                meter.end_window("observed")
    finally:
        pynvml.nvmlShutdown()
        workload.close()
    for part, name in ((0, "time"), (1, "energy")):
        bare, seen = (statistics.median(run[part] for run in runs) for runs in (alone, observed))
        assert seen <= 1.01 * bare, f"{name}: {100 * (seen / bare - 1):.2f} % more under the meter"


def test_the_command_that_was_simulated_works_unchanged(tmp_path, model_path, configuration):
    campaign = tmp_path / "campaign.yaml"
    campaign.write_text(
        f"defaults: {{model: gpu-check, model_path: {model_path}, prompt_tokens: 256, output_tokens: 16}}\n"
        "measure: {blocks: 2, minimum_periods: 25, temperature_span_s: 2, warm_up_limit_s: 10}\n"
        "list:\n  - {batch_size: 1}\n  - {batch_size: 8, attention: eager}\n"
        "  - {batch_size: 8, static_cache: true}\n"
    )
    output = tmp_path / "runs.jsonl"
    assert main(["measure", "--campaign", str(campaign), "--output", str(output)]) == 0
    rows = read_runs(output)
    assert [(row.status, row.simulated) for row in rows] == [("ok", False)] * 3, rows
    assert [row.attention_backend for row in rows] == ["sdpa", "eager", "sdpa"]
    for row in rows:
        assert row.energy_method == "counter_slope"
        assert row.idle_power_w is None or row.idle_power_w <= row.context_idle_power_w
        assert row.context_idle_power_w < row.average_power_w
        assert None not in (row.sm_clock_mhz, row.temperature_c, row.power_limit_w, row.driver_version)
    assert main(["measure", "--campaign", str(campaign), "--output", str(output)]) == 0
    assert len(read_runs(output)) == 3


def test_cuda_graphs_make_the_same_tokens_faster(configuration):
    from dataclasses import replace  # noqa: PLC0415

    from llmco2.measurement.meters.clock import MonotonicClock  # noqa: PLC0415

    small = replace(configuration, batch_size=1, prompt_tokens=64, output_tokens=33, static_cache=True)
    seconds = {}
    for compiled in (False, True):
        workload = workload_of(replace(small, compiled=compiled), MonotonicClock())
        workload.whole(3)
        workload.prefill(1)
        workload.decode(1)
        began_s = time.monotonic()
        workload.decode(5)
        seconds[compiled] = time.monotonic() - began_s
        assert workload.facts.cuda_graphs is compiled
        workload.close()
    assert seconds[True] < seconds[False]


def test_running_out_of_memory_is_a_reason_and_the_gpu_is_free_again(configuration):
    from dataclasses import replace  # noqa: PLC0415

    import torch  # noqa: PLC0415

    from llmco2.measurement.meters.clock import MonotonicClock  # noqa: PLC0415

    free, _ = torch.cuda.mem_get_info()
    workload = workload_of(replace(configuration, batch_size=65536, prompt_tokens=4096), MonotonicClock())
    with pytest.raises(WorkloadError) as caught:
        workload.prefill(1)
    assert caught.value.kind == "out_of_memory"
    workload.close()
    assert torch.cuda.mem_get_info()[0] >= 0.95 * free
    workload = workload_of(configuration, MonotonicClock())
    workload.whole(1)
    workload.close()
