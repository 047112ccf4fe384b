"""``llmco2 measure --simulate`` end to end: real zeus and pynvml code over the simulated library."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest

from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.cli.main import main
from llmco2.measurement.campaigns.campaign_file import load_campaign
from llmco2.measurement.campaigns.run_log import read_runs
from llmco2.measurement.workloads.simulated_workload import simulated_phases

CAMPAIGN = """
defaults: {model: meta-llama/Llama-3.1-8B}
grid:
  batch_size: [1, 2, 4, 8, 16]
  prompt_tokens: [128, 2048]
  output_tokens: [8, 64, 256]
"""
GPU = "H100-SXM5-80GB"


@pytest.fixture
def campaign_file(tmp_path):
    path = tmp_path / "sweep.yaml"
    path.write_text(CAMPAIGN)
    return path


def start(campaign_file, output):
    command = ["measure", "--campaign", str(campaign_file), "--output", str(output), "--simulate"]
    return subprocess.Popen(
        [sys.executable, "-m", "llmco2.cli.main", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
        # A shell that runs the tests in the background has them ignore the signal, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )


def wait_for_rows(output, count, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if output.exists() and output.read_bytes().count(b"\n") >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"no {count} rows: {process.communicate()}")


def test_killed_interrupted_and_resumed_every_configuration_is_labelled_once_and_right(
    campaign_file, tmp_path
):
    output = tmp_path / "runs.jsonl"
    killed = start(campaign_file, output)
    wait_for_rows(output, 5, killed)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    after_kill = [row.run_id for row in read_runs(output)]
    assert len(after_kill) >= 5

    interrupted = start(campaign_file, output)
    wait_for_rows(output, len(after_kill) + 5, interrupted)
    interrupted.send_signal(signal.SIGINT)
    _, errors = interrupted.communicate(timeout=30)
    assert interrupted.returncode == 130
    assert "resume: llmco2 measure --campaign" in errors
    assert "Traceback" not in errors

    finished = start(campaign_file, output)
    words, errors = finished.communicate(timeout=60)
    assert finished.returncode == 0, errors
    assert "0 left" in words
    assert "SIMULATED" in words
    rows = read_runs(output)
    assert [row.run_id for row in rows][: len(after_kill)] == after_kill
    campaign = load_campaign(campaign_file)
    assert Counter(row.run_id for row in rows) == Counter(
        c.run_id(gpu=GPU, simulated=True) for c in campaign.configurations
    )
    assert all(row.simulated and row.status == "ok" for row in rows)
    check_against_the_truth(rows, campaign)
    assert "SIMULATED" in output.with_suffix(".md").read_text()


def check_against_the_truth(rows, campaign):
    by_id = {row.run_id: row for row in rows}
    gpu = resolve_gpu(GPU)
    for configuration in campaign.configurations:
        row = by_id[configuration.run_id(gpu=GPU, simulated=True)]
        truth = simulated_phases(configuration, resolve_model(row.model), gpu, idle_power_w=row.idle_power_w)
        assert row.prefill_energy_j == pytest.approx(truth.prefill.energy_j, rel=0.02)
        assert row.decode_energy_j == pytest.approx(truth.decode.energy_j, rel=0.02)
        assert row.energy_j == pytest.approx(truth.prefill.energy_j + truth.decode.energy_j, rel=0.03)
        assert row.ttft_s == pytest.approx(truth.prefill.time_s, rel=1e-6)
        assert row.step_time_batch1_s == truth.step_time_batch1_s
        assert "parts_disagree" not in row.flags


def test_one_configuration_from_options_and_one_that_does_not_fit(tmp_path, capsys):
    output = str(tmp_path / "one.jsonl")
    small = [
        "measure",
        "Qwen/Qwen3-0.6B",
        "--batch-size",
        "4",
        "--prompt-tokens",
        "64",
        "--output-tokens",
        "8",
    ]
    assert main([*small, "--output", output, "--simulate"]) == 0
    large = ["measure", "meta-llama/Llama-3.1-70B", "--output", output, "--simulate"]
    assert main(large) == 1
    ok, failed = read_runs(output)
    assert (ok.batch_size, ok.prompt_tokens, ok.output_tokens) == (4, 64, 8)
    assert failed.failure_reason.startswith(
        "does_not_fit: meta-llama/Llama-3.1-70B does not fit one H100-SXM5-80GB"
    )
    assert "weights 141" in failed.failure_reason  # 70.6e9 parameters of two bytes
    assert main([*large, "--tensor-parallel", "2"]) == 0
    assert read_runs(output)[-1].n_gpus == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["measure"], "nothing to measure: expected MODEL or --campaign FILE or --kernels FILE"),
        (["measure", "m", "--campaign", "x.yaml"], "a campaign file and a single configuration: got m"),
        (["measure", "--campaign", "x.yaml", "--batch-size", "2"], "got --batch-size"),
        (["measure", "--campaign", "no.yaml"], "cannot read no.yaml"),
        (["measure", "m", "--batch-size", "0"], "batch_size is out of range: got 0"),
        (["measure", "m", "--precision", "bf17"], "unknown precision: got 'bf17'"),
        (["measure", "m", "--server", "localhost:8000"], "server_url is not an address"),
        (["measure", "m", "--simulated-gpu", "L4"], "--simulated-gpu without --simulate"),
        (["measure", "m", "--simulate", "--simulated-gpu", "H1000"], "unknown GPU"),
        (["measure", "m", "--simulate", "--output", "no/such/folder/x.jsonl"], "cannot write"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_the_command_says_so_and_offers_the_simulation(tmp_path, monkeypatch, capsys):
    if has_driver():
        pytest.skip("this machine has an NVIDIA driver, so nothing is refused")
    monkeypatch.chdir(tmp_path)
    assert main(["measure", "Qwen/Qwen3-0.6B"]) == 1
    errors = capsys.readouterr().err
    assert "--simulate" in errors
    assert errors.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def has_driver():
    import pynvml  # noqa: PLC0415

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return False
    pynvml.nvmlShutdown()
    return True
