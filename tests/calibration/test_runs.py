"""Columns to calibrate with say what predict says, and hold only what can be compared with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from llmco2.calibration.runs import LABELS, calibration_runs, log_ratios, primary
from llmco2.deployment.resolving import request_deployment
from llmco2.predictor.api import predict
from llmco2.predictor.checkpoint import Checkpoint
from tests.calibration.conftest import ENGINE, GPU, columns_of, measured_runs, requested_runs, stack_columns

POWER = LABELS.index("average_power_w")


@pytest.mark.parametrize("serving", ["static", "continuous"])
def test_a_run_is_compared_with_what_predict_answers(checkpoint: Checkpoint, serving: str) -> None:
    (run,) = requested_runs(1, serving=serving)
    labelled = replace(
        run,
        energy_j=3.0,
        decode_energy_j=5.0,
        prefill_energy_j=7.0,
        latency_s=11.0,
        tpot_s=13.0,
        ttft_s=17.0,
    )
    answer = predict(
        model=run.model,
        gpu=run.gpu,
        engine=run.engine,
        precision=run.precision,
        batch_size=run.batch_size,
        prompt_tokens=run.prompt_tokens or 0.0,
        output_tokens=run.output_tokens or 0.0,
        serving=serving,
    )
    predicted = np.array([3.0, 5.0, 7.0, 11.0, 13.0, 17.0]) / np.exp(
        np.delete(log_ratios(columns_of([labelled], checkpoint))[0], POWER)
    )
    said = [
        answer.total.energy_j,
        answer.decode.energy_j,
        answer.prefill.energy_j,
        answer.latency_s,
        answer.tpot_s,
        answer.ttft_s,
    ]
    assert predicted == pytest.approx(said, rel=1e-6)


def test_power_counts_only_where_no_energy_is_known(checkpoint: Checkpoint) -> None:
    (run,) = measured_runs(1, checkpoint)
    watts = (run.energy_j or 0.0) / (run.latency_s or 1.0)
    both = columns_of([replace(run, average_power_w=2.0 * watts)], checkpoint)
    assert np.isnan(both.labels[0, POWER])
    alone = replace(
        run, average_power_w=2.0 * watts, energy_j=None, prefill_energy_j=None, decode_energy_j=None
    )
    assert log_ratios(columns_of([alone], checkpoint))[0, POWER] == pytest.approx(np.log(2.0))


def test_only_whole_gross_batches_count(checkpoint: Checkpoint) -> None:
    (run,) = measured_runs(1, checkpoint)
    unlabelled = replace(
        run,
        energy_j=None,
        prefill_energy_j=None,
        decode_energy_j=0.0,
        latency_s=None,
        ttft_s=None,
        tpot_s=None,
    )
    useless = [
        replace(run, status="failed"),
        replace(run, output_tokens=None),
        replace(run, prompt_tokens=None),
        replace(run, data_parallel=2),
        replace(run, shape_mix="[[1, 2, 3]]"),
        unlabelled,
        replace(unlabelled, energy_j=5.0, energy_includes="gpu_net"),
    ]
    groups, unusable = calibration_runs([run, *useless], checkpoint)
    assert unusable == len(useless)
    assert [len(group) for group in groups.values()] == [1]


def test_energy_per_token_stands_for_the_energy_it_adds_up_to(checkpoint: Checkpoint) -> None:
    (run,) = measured_runs(1, checkpoint, serving="continuous")
    each = (run.energy_j or 0.0) / (run.batch_size * (run.output_tokens or 0.0))
    columns = columns_of([replace(run, energy_j=None, energy_per_output_token_j=each)], checkpoint)
    assert columns.labels[0, 0] == pytest.approx(run.energy_j)
    assert log_ratios(columns)[0, 0] == pytest.approx(0.0, abs=1e-9)


def test_a_capped_gpu_is_compared_with_its_cap(checkpoint: Checkpoint) -> None:
    """Prefill of a large model draws over 400 W of an H100, so under a limit of 300 W less energy is expected."""
    (run,) = requested_runs(1)
    busy = replace(run, batch_size=64.0, prompt_tokens=4096.0, output_tokens=2.0, energy_j=1e4, latency_s=1.0)
    free, capped, above = (
        log_ratios(columns_of([replace(busy, power_limit_w=limit)], checkpoint))[0]
        for limit in (None, 300.0, 1000.0)
    )
    watts = np.exp(free[LABELS.index("latency_s")] - free[0]) * 1e4
    assert watts > 400.0
    below = np.exp(capped[LABELS.index("latency_s")] - capped[0]) * 1e4
    assert 250.0 < below < 300.0
    assert above == pytest.approx(free, nan_ok=True)


def test_the_first_known_label_of_a_run_counts() -> None:
    ratios = np.array([[np.nan, 2.0, 3.0], [1.0, np.nan, np.nan], [np.nan] * 3])
    assert primary(ratios) == pytest.approx([2.0, 1.0, np.nan], nan_ok=True)


def test_groups_are_of_gpu_and_engine_and_say_what_was_simulated(checkpoint: Checkpoint) -> None:
    runs = measured_runs(3, checkpoint)
    mixed = [runs[0], replace(runs[1], simulated=True), replace(runs[2], engine="sglang")]
    groups, _ = calibration_runs(mixed, checkpoint)
    assert {key: (len(group), group.simulated) for key, group in groups.items()} == {
        (GPU, ENGINE): (2, True),
        (GPU, "sglang"): (1, False),
    }


def test_made_up_stacks_are_what_predict_says_with_their_factors(checkpoint: Checkpoint) -> None:
    scales = {"kernel time": 1.5, "dynamic power": 0.8}
    quick = stack_columns(4, checkpoint, scales)
    slow = columns_of(measured_runs(4, checkpoint, scales), checkpoint)
    assert quick.labels == pytest.approx(slow.labels, nan_ok=True, rel=1e-6)
    assert request_deployment(requested_runs(1)[0].request()).engine == ENGINE
