"""Choices of the predictor that ships: what holds of every one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmco2
from llmco2.catalog.gpus import resolve_gpu
from llmco2.decision.choice import Choice
from llmco2.decision.describing import verdict_lines, year_line
from llmco2.decision.ranking import OBJECTIVE_COLUMNS
from llmco2.errors import InputError
from llmco2.physics.power import power_columns

ASKED: dict[str, Any] = {
    "model": "Qwen/Qwen3-8B",
    "gpu": ["H100", "L40S"],
    "engine": "vllm",
    "tensor_parallel": [1, 2],
    "batch_size": [1, 8, 64],
    "prompt_tokens": 512,
    "output_tokens": 128,
    "zone": "FRA",
}
COLUMN_OF = {
    "max_ttft_s": "ttft_s",
    "max_tpot_s": "tpot_s",
    "max_latency_s": "latency_s",
    "max_gpus": "gpus_needed",
}


def chosen(**given: Any) -> Choice:
    return llmco2.choose(**(ASKED | given))


def least(choice: Choice) -> float:
    """Return the objective of the best option; infinite where there is none."""
    return np.inf if choice.best is None else float(choice.best[OBJECTIVE_COLUMNS[choice.objective]])


@pytest.mark.parametrize(("objective", "rate"), [("energy", None), ("carbon", 30.0), ("gpus", 0.2)])
def test_the_best_meets_every_target_and_a_looser_one_never_costs_more(
    objective: str, rate: float | None
) -> None:
    plain = chosen(objective=objective, requests_per_s=rate)
    for name, column in COLUMN_OF.items():
        values = np.quantile(plain.frame[column].dropna(), [0.0, 0.3, 1.0])
        costs = []
        for limit in values:
            choice = chosen(objective=objective, requests_per_s=rate, **{name: float(limit)})
            assert choice.best is not None
            assert choice.best[column] <= limit
            assert choice.best["verdict"] == "meets"
            costs.append(least(choice))
        assert costs == sorted(costs, reverse=True)
        assert costs[-1] == least(plain)


@pytest.mark.parametrize(("objective", "rate"), [("energy", 5.0), ("latency", None)])
def test_more_candidates_never_make_the_winner_worse(objective: str, rate: float | None) -> None:
    few = chosen(objective=objective, requests_per_s=rate, max_tpot_s=0.05)
    wider: dict[str, Any] = {
        "gpu": ["H100", "B200"],
        "batch_size": [1, 2, 8, 64, 128],
        "tensor_parallel": [1, 2, 4],
    }
    for name, values in wider.items():
        more = chosen(
            objective=objective, requests_per_s=rate, max_tpot_s=0.05, **{name: [*ASKED[name], *values]}
        )
        assert least(more) <= least(few) * (1 + 1e-7)  # to which the running requests are solved


def test_an_option_is_what_predict_says_of_it() -> None:
    best = chosen().best
    assert best is not None
    names = ["model", "gpu", "engine", "tensor_parallel", "batch_size", "prompt_tokens", "output_tokens"]
    alone = llmco2.predict(**{name: best[name] for name in names}, serving="continuous", zone="FRA")
    assert best["energy_per_request_wh"] == pytest.approx(
        alone.total.energy_j / best["batch_size"] / 3600, rel=1e-6
    )
    assert best["gco2e_per_request"] == pytest.approx(alone.carbon.total_gco2e / best["batch_size"], rel=1e-6)
    assert best["gco2e_per_million_output_tokens"] == pytest.approx(best["gco2e_per_request"] / 128 * 1e6)
    assert best["energy_per_million_output_tokens_wh"] == pytest.approx(
        best["energy_per_output_token_j"] / 3600 * 1e6
    )
    assert best["latency_low_s"] < best["latency_s"] < best["latency_high_s"]


@pytest.mark.parametrize("rate", [0.05, 3.0, 200.0])
def test_the_year_is_rate_times_request_and_its_columns_reconcile(rate: float) -> None:
    frame = chosen(requests_per_s=rate).frame
    requests = rate * 365.25 * 86400
    year = frame["energy_per_year_kwh"]
    assert (
        frame["request_energy_per_year_kwh"] + frame["idle_energy_per_year_kwh"]
    ).to_numpy() == pytest.approx(year)
    assert (requests * frame["energy_per_request_wh"] / 1000).to_numpy() == pytest.approx(year)
    served = np.maximum(frame["running_requests"], 1.0)
    assert (requests * frame["energy_j"] / served / 3.6e6).to_numpy() == pytest.approx(
        frame["request_energy_per_year_kwh"]
    )
    facility = (year + frame["host_energy_per_year_kwh"]) * frame["pue"]
    assert facility.to_numpy() == pytest.approx(frame["facility_energy_per_year_kwh"])
    tonnes = facility / 1000 * frame["carbon_intensity_gco2e_per_kwh"] / 1000  # MWh x kg/MWh
    assert tonnes.to_numpy() == pytest.approx(frame["operational_per_year_kgco2e"] / 1000)
    total_g = 1000 * (frame["operational_per_year_kgco2e"] + frame["embodied_per_year_kgco2e"])
    assert (requests * frame["gco2e_per_request"]).to_numpy() == pytest.approx(total_g)
    in_system = frame["requests_per_s_each"] * frame["latency_s"]
    assert frame["running_requests"].to_numpy() == pytest.approx(in_system, rel=1e-6)
    assert (frame["load_share"] <= 1.0 + 1e-9).all()
    assert (frame["running_requests"] <= frame["most_running_requests"]).all()


def test_hardly_any_load_is_idle_hardware() -> None:
    best = chosen(gpu="H100", tensor_parallel=1, batch_size=8, requests_per_s=1e-6).best
    assert best is not None
    idle_w = float(power_columns([resolve_gpu("H100")]).idle_w[0])
    assert best["gpus_needed"] == 1
    assert best["energy_per_year_kwh"] == pytest.approx(idle_w * 8.766, rel=1e-4)


def test_the_rate_without_idle_is_what_a_year_of_predict_says() -> None:
    """At a rate that keeps replicas busy, requests take what the same steady batch takes."""
    best = chosen(gpu="H100", tensor_parallel=1, batch_size=64, requests_per_s=40.0).best
    assert best is not None
    assert best["idle_energy_per_year_kwh"] == 0.0
    alone = llmco2.predict(
        model="Qwen/Qwen3-8B", gpu="H100", engine="vllm", batch_size=float(best["running_requests"]),
        prompt_tokens=512, output_tokens=128, serving="continuous",
    )  # fmt: skip
    per_request_j = alone.total.energy_j / best["running_requests"]
    assert best["energy_per_request_wh"] * 3600 == pytest.approx(per_request_j, rel=1e-6)


def test_the_front_holds_the_least_of_each_figure_and_nothing_dominated() -> None:
    choice = chosen()
    columns = list(choice.front_columns)
    front, met = choice.pareto[columns].to_numpy(float), choice.frame[choice.frame["verdict"] == "meets"]
    for k, column in enumerate(columns):
        assert front[:, k].min() == met[column].min()
    for row in front:
        others = met[columns].to_numpy(float)
        assert not ((others <= row).all(axis=1) & (others < row).any(axis=1)).any()


def test_an_unmet_target_names_what_binds_and_the_nearest_that_can_be_met() -> None:
    choice = chosen(max_tpot_s=1e-4, max_gpus=2)
    assert choice.best is None
    assert choice.equal.empty
    assert choice.pareto.empty
    assert choice.shortfall is not None
    (missed,) = choice.shortfall.binding
    assert missed.target == "max_tpot_s"
    assert chosen(max_tpot_s=missed.nearest, max_gpus=2).best is not None
    assert chosen(max_tpot_s=missed.nearest * 0.999, max_gpus=2).best is None
    assert choice.closest["tpot_s"] == missed.nearest
    assert "--max-tpot 0.0001 binds" in verdict_lines(choice)[1]


def test_the_verdict_has_the_margin_the_interval_and_the_equals() -> None:
    choice = chosen()
    text = " ".join(verdict_lines(choice))
    assert "90% interval" in text
    assert f"{len(choice.equal) - 1} other option" in text
    assert choice.frame["equal_to_best"].iloc[0]
    assert "<table" in choice._repr_html_()
    assert "A year:" in year_line(chosen(requests_per_s=2.0))


def test_what_does_not_run_is_kept_with_its_reason() -> None:
    choice = llmco2.choose(
        model="meta-llama/Llama-3.1-70B",
        gpu="H100",
        engine="vllm",
        tensor_parallel=[1, 2],
        batch_size=[4, 256],
    )
    assert choice.frame["verdict"].tolist() == ["meets", "exceeds memory", "no answer", "no answer"]
    assert "does not fit" in choice.frame["error"].iloc[-1]


def test_tensor_parallel_is_what_a_name_of_several_gpus_says() -> None:
    frame = llmco2.choose(model="Qwen/Qwen3-8B", gpu="gpu:h100:4", engine="vllm", batch_size=[1, 8]).frame
    assert frame["resolved_n_gpus"].tolist() == [4, 4]


def test_values_come_as_any_sequence_and_zones_are_compared() -> None:
    choice = chosen(
        batch_size=np.array([1, 8]), tensor_parallel=range(1, 3), gpu=pd.Series(["H100"]), zone=("FRA", "USA")
    )
    assert len(choice.frame) == 8
    assert choice.best is not None
    assert chosen(zone=("FRA", "USA"), objective="carbon").closest["zone"] == "FRA"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"objective": "speed"}, "unknown objective: got 'speed'"),
        ({"gpu": "H999"}, "unknown GPU"),
        ({"batch_size": 0}, "batch_size is out of range"),
        ({"requests_per_s": 0.0}, "requests_per_s is out of range"),
        ({"requests_per_s": 1.0, "utilization": 0.5}, "utilization is given beside a rate"),
        ({"gpu": []}, "an option without values"),
        ({"servng": "static"}, "unknown option of a choice: got 'servng'"),
        ({"model": "meta-llama/Llama-3.1-70B", "tensor_parallel": 1}, "does not fit"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        chosen(**given)
