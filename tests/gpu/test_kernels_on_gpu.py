"""What only a GPU can show of single kernels (``make test-gpu``); some minutes on a GPU that nobody else uses."""

import pytest

from llmco2.cli.main import main
from llmco2.data.tables import read_kernels
from llmco2.measurement.campaigns.plan import MeasurePlan
from llmco2.measurement.kernels.measure import measure_kernel
from llmco2.measurement.kernels.shapes import KernelShape

# What a release of torch or CUDA warns of is nothing that is checked here.
pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

PLAN = MeasurePlan(blocks=3, warm_up_limit_s=10.0, temperature_span_s=1.0)
SHAPES = [
    KernelShape(kind="gemm", m=4096, n=4096, k=4096),
    KernelShape(kind="gemm", m=1, n=4096, k=4096),
    KernelShape(
        kind="decode_attention", batch_size=64, context_tokens=2048, n_heads=32, n_kv_heads=8, head_dim=128
    ),
    KernelShape(kind="rms_norm", m=4096, n=4096),
]


def measured(shape):
    from llmco2.measurement.kernels.torch_kernel import TorchKernel  # noqa: PLC0415
    from llmco2.measurement.meters.zeus_meter import ZeusMeter  # noqa: PLC0415

    kernel = TorchKernel(shape, device="cuda:0")
    try:
        with ZeusMeter(environ={"CUDA_VISIBLE_DEVICES": "0"}) as meter:
            kernel.load()
            return kernel.facts, measure_kernel(kernel, meter, PLAN, lambda stage, energy_j: None)
    finally:
        kernel.close()


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.label)
def test_energy_of_kernel_windows_agrees_with_integrated_power_within_5_percent(shape):
    facts, label = measured(shape)
    assert facts.cuda_graphs
    assert facts.cold_cache
    for reading in label.readings:
        assert not reading.simulated
        assert reading.method == "counter_slope"
        assert reading.duration_s >= 50 * reading.counter_period_s
        assert reading.integrated_energy_j == pytest.approx(reading.energy_j, rel=0.05)
    assert label.energy_std_j <= 0.03 * label.energy_j
    assert label.latency_std_s <= 0.03 * label.latency_s


def test_a_cold_cache_is_slower_than_a_warm_one_where_the_operands_fit_it():
    import torch  # noqa: PLC0415

    width = 2048  # 8 MB of weights
    if torch.cuda.get_device_properties(0).L2_cache_size < 3 * 2 * width * width:
        pytest.skip("the last cache of this GPU is too small to keep the weights")
    seconds = {
        cold: measured(KernelShape(kind="gemm", m=1, n=width, k=width, cold_cache=cold))[1].latency_s
        for cold in (True, False)
    }
    assert seconds[True] > seconds[False]


def test_the_command_that_was_simulated_works_unchanged_and_names_what_does_not_fit(tmp_path):
    campaign = tmp_path / "k.yaml"
    campaign.write_text(
        "kernels:\n  - {kind: gemm, m: [1, 1024], n: 4096, k: 4096}\n"
        "  - {kind: copy, m: 2000000000, n: 4096}\nmeasure: {blocks: 2, minimum_periods: 25}\n"
    )
    output = tmp_path / "kernels.jsonl"
    command = ["measure", "--kernels", str(campaign), "--output", str(output)]
    assert main(command) == 0
    rows = read_kernels(output)
    assert rows.attrs["excluded_failed"] == 1
    assert list(rows["cuda_graphs"]) == [True, True]
    assert (rows["context_idle_power_w"] < rows["power_w"]).all()
    assert rows["energy_j"].iloc[1] > rows["energy_j"].iloc[0]
    assert main(command) == 0
    assert len(read_kernels(output)) == 2
