"""A campaign of kernels: right labels, failures on record, and nothing lost when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace

import pytest

from llmco2.catalog.gpus import resolve_gpu
from llmco2.cli.main import main
from llmco2.errors import FileFormatError, InputError
from llmco2.measurement.campaigns.data_card import card_path
from llmco2.measurement.campaigns.run_log import KERNELS, KernelLog, RunLog, read_rows
from llmco2.measurement.kernels.campaign import KernelTools, check_memory, run_kernel_campaign
from llmco2.measurement.kernels.campaign_file import kernel_campaign_from, load_kernel_campaign
from llmco2.measurement.kernels.kernel import KernelFacts
from llmco2.measurement.kernels.shapes import KernelShape
from llmco2.measurement.kernels.simulated_kernel import SimulatedKernel, simulated_launch
from llmco2.measurement.meters.zeus_meter import ZeusMeter
from llmco2.measurement.workloads.simulated_workload import SimulatedPhase
from llmco2.measurement.workloads.workload import WorkloadError
from llmco2.records.run import MeasuredRun

GPU = "H100-SXM5-80GB"
LAUNCH_S, LAUNCH_W = 3e-5, 420.0
LABELS = ("latency_s", "latency_std_s", "power_w", "energy_j", "energy_std_j", "window_s")


class FaultyKernel(SimulatedKernel):
    """A kernel of known time and power that fails where it is told to."""

    def __init__(self, shape, fault, rig):
        launch = SimulatedPhase(time_s=LAUNCH_S, power_w=LAUNCH_W, n_gpus=1)
        super().__init__(shape, launch, rig=rig, idle_power_w=70.0)
        self.fault = fault
        self.closed = False

    @property
    def facts(self):
        return KernelFacts(
            implementation="made_up", engine_version="1.0", cuda_graphs=True, cold_cache=True, flags=("f",)
        )

    def run(self, cycles):
        if isinstance(self.fault, BaseException):
            raise self.fault
        if self.fault == "lost":
            self._rig.lose(0)
        super().run(cycles)

    def close(self):
        super().close()
        self.closed = True


@pytest.fixture
def bench(rig, tmp_path):
    """Return what a test changes (faults by m) and a function that runs a campaign of copies of m rows."""

    class Bench:
        faults = {}  # noqa: RUF012 - one per test
        kernels = []  # noqa: RUF012
        path = tmp_path / "kernels.jsonl"

        def __init__(self):
            self.faults, self.kernels = {}, []

        def make(self, shape):
            self.kernels.append(FaultyKernel(shape, self.faults.get(shape.m), rig))
            return self.kernels[-1]

        def open_meter(self, gpus):
            rig.find(0)  # a lost board is back by the time it is opened again
            return ZeusMeter(clock=rig.clock)

        def tools(self):
            return KernelTools(
                open_meter=self.open_meter,
                make_kernel=self.make,
                gpu_name=lambda name: GPU,
                idle_power_w=lambda meter, bare: 70.0 if bare else 110.0,
            )

        def run(self, *rows, **options):
            campaign = kernel_campaign_from({"kernels": [{"kind": "copy", "m": list(rows), "n": 8}]})
            with KernelLog(self.path) as log:
                return run_kernel_campaign(campaign, log, self.tools(), **options)

        @property
        def rows(self):
            return read_rows(self.path, KERNELS)

    return Bench()


def test_a_row_is_power_times_time_and_carries_how_it_was_measured(bench):
    summary = bench.run(5)
    assert (summary.measured, summary.failed, summary.left) == (1, 0, 0)
    (row,) = bench.rows
    assert row.latency_s == pytest.approx(LAUNCH_S, rel=1e-6)
    assert row.latency_std_s == pytest.approx(0.0, abs=1e-9 * LAUNCH_S)
    assert row.energy_j == pytest.approx(LAUNCH_S * LAUNCH_W, rel=0.01)
    assert row.energy_std_j < 0.01 * row.energy_j
    assert row.integrated_energy_j == pytest.approx(row.energy_j, rel=0.05)
    assert row.power_w == pytest.approx(LAUNCH_W, rel=0.01)
    assert row.window_s >= 3 * 50 * row.counter_period_s
    assert row.repeats == pytest.approx(row.window_s / LAUNCH_S, rel=1e-6)
    assert (row.kind, row.precision, row.m, row.n, row.k) == ("copy", "bf16", 5, 8, None)
    assert (row.flops, row.bytes_moved) == (0.0, 2 * 2 * 5 * 8)
    assert (row.gpu, row.n_gpus, row.simulated, row.status) == (GPU, 1, True, "ok")
    assert (row.implementation, row.engine_version, row.cuda_graphs) == ("made_up", "1.0", True)
    assert (row.idle_power_w, row.context_idle_power_w) == (70.0, 110.0)
    assert row.energy_method == "counter_slope"
    assert (row.sm_clock_mhz, row.temperature_c, row.throttle_reasons) == (1980.0, 35.0, "")
    assert row.flags == "f"
    assert bench.kernels[0].closed


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (WorkloadError("out_of_memory", "gemm: got CUDA out of memory"), "out_of_memory: gemm"),
        (NotImplementedError("no such kernel"), "unexpected: NotImplementedError: no such kernel"),
        ("lost", "measurement: no energy reading of kernel"),
    ],
)
def test_a_kernel_that_fails_is_a_row_with_its_reason_and_the_next_goes_on(bench, fault, reason):
    bench.faults[2] = fault
    summary = bench.run(1, 2, 3)
    assert (summary.measured, summary.failed, summary.left) == (2, 1, 0)
    assert [row.status for row in bench.rows] == ["ok", "failed", "ok"]
    failed = bench.rows[1]
    assert failed.failure_reason.startswith(reason)
    assert [getattr(failed, name) for name in LABELS] == [None] * len(LABELS)
    assert all(kernel.closed for kernel in bench.kernels)


def test_operands_that_cannot_fit_are_refused_before_they_are_made(bench):
    summary = bench.run(2**31 - 1)  # 34 GB in and 34 GB out fit 85 GB
    assert summary.failed == 0
    with pytest.raises(InputError, match=r"137\.4 GB of operands and result, expected at most 85 GB"):
        check_memory(KernelShape(kind="copy", m=2**31 - 1, n=16), 85e9)


def test_failed_kernels_count_as_done_unless_asked_for_again(bench):
    bench.faults[2] = RuntimeError("once")
    bench.run(1, 2, 3)
    assert len(bench.kernels) == 3
    assert bench.run(1, 2, 3).measured == 0
    assert len(bench.kernels) == 3
    bench.faults.clear()
    assert bench.run(1, 2, 3, retry_failed=True).measured == 1
    assert [row.m for row in bench.rows if row.status == "ok"] == [1, 3, 2]


def test_an_interrupt_ends_between_rows_and_the_rest_is_measured_later(bench):
    bench.faults[3] = KeyboardInterrupt()
    summary = bench.run(1, 2, 3, 4)
    assert (summary.measured, summary.left, summary.stopped_because) == (2, 2, "interrupted")
    assert bench.kernels[-1].closed
    bench.faults.clear()
    assert bench.run(1, 2, 3, 4).measured == 2
    assert [row.m for row in bench.rows] == [1, 2, 3, 4]


def test_idle_with_a_context_is_measured_once_for_all_kernels(bench):
    asked = []
    campaign = kernel_campaign_from({"kernels": [{"kind": "copy", "m": [1, 2, 3], "n": 8}]})
    tools = replace(bench.tools(), idle_power_w=lambda meter, bare: asked.append(bare) or 99.0)
    with KernelLog(bench.path) as log:
        run_kernel_campaign(campaign, log, tools)
    assert asked == [True, False]
    assert [row.context_idle_power_w for row in bench.rows] == [99.0] * 3


def test_kernels_and_runs_never_share_a_file(bench, tmp_path):
    bench.run(1)
    with pytest.raises(FileFormatError, match=r"line 1: not a measured run: got an object without model"):
        RunLog(bench.path)
    runs = tmp_path / "runs.jsonl"
    with RunLog(runs) as log:
        log.append(MeasuredRun(run_id="a", source="s", model="m", gpu="g"))
    with pytest.raises(FileFormatError, match="not a measured kernel: got an object without kind"):
        KernelLog(runs)


def test_simulated_kernels_never_join_real_ones(bench):
    bench.run(1)
    real = {**json.loads(bench.path.read_text()), "simulated": False, "run_id": "other"}
    bench.path.write_text(json.dumps(real) + "\n")
    with pytest.raises(InputError, match="simulated and real labels never share a file"):
        bench.run(1)


CAMPAIGN = """
shuffle: 1
kernels:
  - {kind: gemm, m: [1, 16, 256, 4096], n: [1024, 4096], k: [1024, 4096], precision: [bf16, fp32]}
  - {kind: decode_attention, batch_size: [1, 8], context_tokens: [512, 4096], n_heads: 32, n_kv_heads: 8, head_dim: 128}
  - {kind: copy, m: 100000000, n: 4096}
"""


@pytest.fixture
def campaign_file(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(CAMPAIGN)
    return path


def wait_for_rows(output, count, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if output.exists() and output.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"no {count} rows: {process.communicate()}")


def test_the_command_killed_and_resumed_measures_every_kernel_once_and_right(campaign_file, tmp_path, capsys):
    output = tmp_path / "kernels.jsonl"
    command = ["measure", "--kernels", str(campaign_file), "--output", str(output), "--simulate"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "llmco2.cli.main", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(os.environ),
    )
    wait_for_rows(output, 5, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    before = [row.run_id for row in read_rows(output, KERNELS)]
    assert len(before) >= 5

    assert main(command) == 0
    words = capsys.readouterr().out
    assert "1 failed, 0 left" in words
    assert "SIMULATED" in words
    rows = read_rows(output, KERNELS)
    assert [row.run_id for row in rows][: len(before)] == before
    shapes = load_kernel_campaign(campaign_file).shapes
    by_id = {shape.run_id(gpu=GPU, simulated=True): shape for shape in shapes}
    assert Counter(row.run_id for row in rows) == Counter(by_id.keys())
    for row in rows:
        assert row.simulated
        if row.kind == "copy":
            assert row.failure_reason.startswith("does_not_fit: copy bf16 m100000000 n4096 does not fit")
            continue
        truth = simulated_launch(by_id[row.run_id], resolve_gpu(GPU), idle_power_w=row.idle_power_w)
        assert row.latency_s == pytest.approx(truth.time_s, rel=1e-6)
        assert row.energy_j == pytest.approx(truth.energy_j, rel=0.02)
    card = card_path(output).read_text()
    assert "SIMULATED" in card
    assert "decode_attention (4), gemm (32)" in card
    assert "does_not_fit (1)" in card
