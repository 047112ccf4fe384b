"""Simulated runs say so, obey the limits of their boards, and are what ships."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.public_runs.sanity import flag_power
from llmco2.catalog.gpus import resolve_gpu
from llmco2.catalog.models import resolve_model
from llmco2.data.simulate import (
    GPUS,
    MODELS,
    SHIPPED_FILE,
    _Deployment,
    kv_bytes,
    simulate_runs,
    step_cost,
    write_shipped_runs,
)
from llmco2.data.tables import read_runs
from llmco2.errors import InputError
from llmco2.resources import datasets_dir


def test_the_shipped_rows_all_say_simulated_and_are_refused_unless_asked_for() -> None:
    path = datasets_dir() / SHIPPED_FILE
    with pytest.raises(InputError, match="holds simulated rows"):
        read_runs(path)
    runs = read_runs(path, allow_simulated=True)
    assert runs["simulated"].all()
    assert runs["notes"].str.contains("simulated").all()
    assert len(runs) <= 400
    assert path.stat().st_size <= 60_000
    assert set(runs["model"]) == set(MODELS)
    assert set(runs["gpu"]) == set(GPUS)


def test_the_generator_is_fixed_by_its_seed(tmp_path: object) -> None:
    pd.testing.assert_frame_equal(simulate_runs(40, seed=2), simulate_runs(40, seed=2))
    assert not simulate_runs(40, seed=2)["energy_j"].equals(simulate_runs(40, seed=3)["energy_j"])


def test_writing_gives_the_rows_back(tmp_path: object) -> None:
    path = write_shipped_runs(str(tmp_path))
    pd.testing.assert_frame_equal(
        read_runs(path, allow_simulated=True), simulate_runs(), check_exact=True, check_flags=False
    )


def test_phases_add_up_and_power_stays_within_the_board() -> None:
    runs = simulate_runs(120, seed=5)
    assert runs["energy_j"].to_numpy() == pytest.approx(
        (runs["prefill_energy_j"] + runs["decode_energy_j"]).to_numpy(), rel=1e-5
    )
    assert (flag_power(runs)["flags"] == "").all()


def test_one_decode_step_by_hand() -> None:
    arch, gpu = resolve_model("mistralai/Mistral-7B-v0.1"), resolve_gpu("A100-SXM4-80GB")
    deployment = _Deployment(arch=arch, gpu=gpu, tensor_parallel=1, precision="bf16", overhead_s=0.001)
    cost = step_cost(deployment, new_tokens=1, context_tokens=1000, batch_size=1)
    # 7,241,732,096 parameters and 2·32·8·128 cache elements a token, 2 bytes each, at 75 % of 2,039 GB/s
    moved = 7_241_732_096 * 2 + 1000 * 2 * 32 * 8 * 128 * 2
    assert kv_bytes(arch, 1, 1000) == 1000 * 131_072
    assert cost.time_s == pytest.approx(moved / (gpu.memory_bandwidth_bytes_per_s * 0.75) + 0.001)
