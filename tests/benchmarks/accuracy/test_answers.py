"""Answers become predictions of labels as the labels mean them."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.answers import ANSWER, end_column, label_predictions, phase_answers, product_answers
from benchmarks.accuracy.workload import Workload


def answers(workload: Workload, **changes: list[float]) -> pd.DataFrame:
    """Return made-up answers: 100 J and 2 s a request, 0.02 s a token of a run, 0.01 s of a step."""
    n = len(workload.requests)
    table = pd.DataFrame({name: np.full(n, 2.0) for name in ANSWER})
    table[["prefill_energy_j", "decode_energy_j", "energy_j"]] = [40.0, 60.0, 100.0]
    table["tpot_s"] = np.where(workload.is_step, 0.01, 0.02)
    return table.assign(**{name: np.array(values) for name, values in changes.items()})


def predicted(workload: Workload, run: int, label: str, table: pd.DataFrame) -> list[float]:
    found = label_predictions(workload, table)
    mine = (workload.labels["run"] == run) & (workload.labels["label"] == label)
    return found.loc[mine].iloc[0].tolist()


def test_energy_is_that_of_the_batch_or_of_an_output_token(workload: Workload) -> None:
    table = answers(workload)
    assert predicted(workload, 0, "energy_j", table)[0] == 100.0
    assert predicted(workload, 1, "energy_per_output_token_j", table)[0] == pytest.approx(100.0 / (8 * 128))
    assert predicted(workload, 3, "prefill_energy_j", table)[0] == 40.0


def test_power_is_energy_over_time(workload: Workload) -> None:
    assert predicted(workload, 0, "average_power_w", answers(workload))[0] == 50.0


def test_a_mix_is_its_mean_batch(workload: Workload) -> None:
    energy = np.full(len(workload.requests), 100.0)
    energy[workload.run_of_request == 2] = [100.0, 300.0]
    table = answers(workload, energy_j=energy.tolist())
    assert predicted(workload, 2, "energy_j", table)[0] == 200.0
    energy[2] = np.nan  # one batch of it was not answered
    assert np.isnan(predicted(workload, 2, "energy_j", answers(workload, energy_j=energy.tolist()))[0])


def test_a_step_is_compared_with_the_step_and_a_token_with_the_token(workload: Workload) -> None:
    table = answers(workload)
    assert predicted(workload, 1, "tpot_s", table)[0] == 0.01
    assert predicted(workload, 4, "tpot_s", table)[0] == 0.02


def test_intervals_follow_their_quantity(workload: Workload) -> None:
    n = len(workload.requests)
    ends = {"energy_low_j": [50.0] * n, "energy_high_j": [150.0] * n}
    table = answers(workload, **ends)
    assert predicted(workload, 0, "energy_j", table) == [100.0, 50.0, 150.0]
    assert predicted(workload, 3, "prefill_energy_j", table)[1:] == [
        50.0,
        150.0,
    ]  # there is nothing else in it
    assert np.isnan(predicted(workload, 0, "latency_s", table)[1])
    timed = answers(workload, **ends, latency_low_s=[1.0] * n, latency_high_s=[3.0] * n)
    assert predicted(workload, 0, "latency_s", timed) == [2.0, 1.0, 3.0]


def test_end_columns() -> None:
    assert end_column("energy_j", "low") == "energy_low_j"
    assert end_column("latency_s", "high") == "latency_high_s"


def test_phases_of_a_steady_batch_share_steps() -> None:
    requests = pd.DataFrame({"output_tokens": [11.0, 11.0, 1.0], "batch_size": [4.0, 4.0, 4.0],
                             "serving": ["static", "continuous", "static"]})  # fmt: skip
    joules, prefill, decode = np.array([8.0] * 3), np.array([2.0] * 3), np.array([5.0, 5.0, 0.0])
    table = phase_answers(requests, joules, prefill, joules, decode)
    assert table["energy_j"].tolist() == [16.0] * 3
    assert table["latency_s"].tolist() == [7.0, 7.0, 2.0]
    assert table["ttft_s"].tolist() == [2.0, 2.0 / 4 + 0.5, 2.0]
    assert table["tpot_s"].tolist() == pytest.approx([0.5, 0.5 + 2.0 / 11, 0.0])


def test_the_product_answers_every_request_in_order(workload: Workload) -> None:
    table = product_answers(workload)
    assert (table["error"] == "").all()
    assert (table["energy_low_j"] <= table["energy_j"]).all()
    found = label_predictions(workload, table)
    assert np.isfinite(found["predicted"]).all()
    steady = found[(workload.labels["run"] == 1) & (workload.labels["label"] == "tpot_s")]["predicted"].item()
    assert steady == table.loc[workload.is_step, "tpot_s"].item()
