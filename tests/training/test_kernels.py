"""Measured kernels: counted as their formulas say, and trained through the coefficients that runs use."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pandas as pd
import pytest
import torch

from llmco2.catalog.gpus import resolve_gpu
from llmco2.data.kernel_tensors import MICROBENCHMARK, kernel_batch, kernel_tensors, load_kernels
from llmco2.data.module import EnergyDataModule
from llmco2.data.options import KernelOptions, SplitOptions
from llmco2.data.schema import canonical_frame
from llmco2.data.tables import write_kernels
from llmco2.data.tensors import vocabulary
from llmco2.errors import InputError
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.operators.names import KINDS, SLOT_INDEX, KernelKind
from llmco2.records.run import KernelMeasurement
from llmco2.training.kernel_loss import kernel_loss, predicted_kernels
from llmco2.training.models import PhysicsModel
from llmco2.training.module import EnergyModule
from llmco2.training.options import KernelTraining, NetworkOptions

A100 = resolve_gpu("A100-SXM4-80GB")
PEAK, BANDWIDTH = A100.peak_flops_per_s["bf16"], A100.memory_bandwidth_bytes_per_s


def kernels(*rows: dict[str, Any]) -> pd.DataFrame:
    defaults = {"source": "test", "gpu": "A100-SXM4-80GB", "precision": "bf16", "latency_s": 1e-4}
    return canonical_frame(pd.DataFrame([{**defaults, **row} for row in rows]), KernelMeasurement)


GEMM = {"kind": "gemm", "m": 64.0, "n": 4096.0, "k": 8192.0}
PREFILL = {"kind": "prefill_attention", "m": 1024.0, "context_tokens": 1024.0, "batch_size": 2.0, "n_heads": 32,
           "n_kv_heads": 8, "head_dim": 128}  # fmt: skip
DECODE = {"kind": "decode_attention", "m": 1.0, "context_tokens": 2048.0, "batch_size": 16.0, "n_heads": 32,
          "n_kv_heads": 8, "head_dim": 128}  # fmt: skip
MOE = {"kind": "moe", "m": 4096.0, "n": 768.0, "k": 2048.0, "n_experts": 128, "experts_per_token": 8}
REDUCE = {"kind": "all_reduce", "n_gpus": 4, "message_bytes": 2.0**24}


def test_work_of_each_kind_is_that_of_its_formula() -> None:
    """FLOPs as the importer's text defines them; bytes of weights, cache and messages by hand."""
    tensors = kernel_tensors(kernels(GEMM, PREFILL, DECODE, MOE, REDUCE))
    flops = (tensors.basis.compute_s.double() * PEAK).numpy()
    up, full = SLOT_INDEX["mlp_up"], SLOT_INDEX["full_attention"]
    assert flops[0, up] == pytest.approx(2 * 64 * 4096 * 8192, rel=1e-5)
    assert flops[1, full] == pytest.approx(4 * 2 * 32 * 128 * 1024 * (1024 - 1023 / 2), rel=1e-5)
    assert flops[2, full] == pytest.approx(4 * 16 * 32 * 128 * 2048, rel=1e-5)
    expert = flops[3, SLOT_INDEX["expert_up"]] + flops[3, SLOT_INDEX["expert_down"]]
    assert expert == pytest.approx(6 * 4096 * 8 * 768 * 2048, rel=1e-5)
    weights = tensors.basis.weight_s.double().numpy() * BANDWIDTH
    assert weights[0, up] == pytest.approx(2 * 4096 * 8192, rel=1e-5)
    cache = tensors.basis.kv_s.double().numpy() * BANDWIDTH
    assert cache[2, full] == pytest.approx(2 * 16 * 2048 * 8 * 128 * 2, rel=1e-5)
    sent = tensors.basis.network_s.double().numpy() * A100.interconnect_bytes_per_s
    assert sent[4, SLOT_INDEX["mlp_all_reduce"]] == pytest.approx(2 * 3 / 4 * 2.0**24, rel=1e-5)


def test_a_kernel_is_alone_in_its_graph() -> None:
    tensors = kernel_tensors(kernels(GEMM, DECODE, MOE))
    launches = tensors.basis.launches
    assert (launches > 0).sum(dim=1).tolist() == [1, 1, 3]
    assert launches.sum(dim=1).tolist() == [1.0, 1.0, 3.0]
    assert torch.bincount(tensors.graphs.batch).tolist() == [1, 1, 3, 1, 1, 3]
    assert tensors.graphs.edge_index.shape[1] == 2 * 2 * 2  # up → activation → down, both ways, both phases


def test_a_window_limits_what_is_attended() -> None:
    tensors = kernel_tensors(kernels({**DECODE, "window_tokens": 512.0}))
    flops = (tensors.basis.compute_s.double() * PEAK).numpy()
    assert flops[0, SLOT_INDEX["sliding_attention"]] == pytest.approx(4 * 16 * 32 * 128 * 512, rel=1e-5)
    assert flops[0, SLOT_INDEX["full_attention"]] == 0.0


def test_kernels_that_fit_no_model_are_dropped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    bad = ({**PREFILL, "context_tokens": 3000.0}, {**MOE, "load_balance": "power_law_1.2"}, {**GEMM, "m": None},
           {**GEMM, "gpu": "NoSuchGPU"}, {**GEMM, "gpu": "V100-SXM2-32GB"})  # fmt: skip
    with caplog.at_level(logging.INFO, logger="llmco2"):
        tensors = kernel_tensors(kernels(GEMM, *bad))
    assert len(tensors) == 1
    assert "dropped 5 of 6 kernels" in caplog.text
    with pytest.raises(InputError, match="no kernel can be represented"):
        kernel_tensors(kernels(*bad))


def test_watts_over_several_gpus_are_not_taken_for_one() -> None:
    tensors = kernel_tensors(kernels({**REDUCE, "power_w": 900.0}, {**GEMM, "power_w": 300.0}))
    assert tensors.power_w.isnan().tolist() == [True, False]


def test_latency_is_never_under_the_roofline_and_watts_never_over_the_limit() -> None:
    tensors = kernel_tensors(
        kernels(GEMM, PREFILL, DECODE, MOE, {**GEMM, "m": 8192.0, "power_limit_w": 250.0})
    )
    network = CoefficientNetwork(vocabulary(tensors.deployments), hidden_dim=8)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn_like(parameter))
        latency_s, power_w = predicted_kernels(network, kernel_batch(tensors, network.vocabulary))
    bound_s = torch.maximum(tensors.basis.compute_s, tensors.basis.weight_s + tensors.basis.kv_s).sum(dim=1)
    assert (latency_s >= bound_s).all()
    assert (power_w <= tensors.basis.power_limit_w * (1 + 1e-5)).all()


def test_kernels_teach_the_slots_they_run_in() -> None:
    """Latencies three times the roofline: the constants of products move, those of caches do not."""
    sizes = [{**GEMM, "m": 2.0**e, "n": 8192.0, "latency_s": 3.0 * 2 * 2.0**e * 8192 * 8192 / PEAK}
             for e in range(12, 16)]  # fmt: skip
    tensors = kernel_tensors(kernels(*sizes))
    names = vocabulary(tensors.deployments)
    network = CoefficientNetwork(names, hidden_dim=0)
    batch = kernel_batch(tensors, names)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        kernel_loss(network, batch).backward()
        optimizer.step()
    with torch.no_grad():
        latency_s, _ = predicted_kernels(network, batch)
        compute = float(network(batch.graphs).slot[0]["compute"][0, SLOT_INDEX["mlp_up"]])
    np.testing.assert_allclose(latency_s.numpy(), [row["latency_s"] for row in sizes], rtol=0.05)
    assert 2.2 < compute <= 3.0  # from 1.6; slower memory explains some of it as well
    assert network.kind_slot[KINDS.index(KernelKind.CACHE)].eq(0).all()
    assert network.kind_slot[KINDS.index(KernelKind.GEMM)].ne(0).any()


def test_unknown_watts_teach_nothing() -> None:
    tensors = kernel_tensors(kernels(GEMM))
    names = vocabulary(tensors.deployments)
    network = CoefficientNetwork(names, hidden_dim=0)
    batch = kernel_batch(tensors, names)
    kernel_loss(network, batch).backward()
    power_columns = [i for i, power in enumerate(network.power_slot.tolist()) if power]
    assert network.base_slot.grad is not None
    assert torch.isfinite(network.base_slot.grad).all()
    latency_s, _ = predicted_kernels(network, batch)
    expected = torch.nn.functional.huber_loss(latency_s.log(), tensors.latency_s.log(), delta=0.5)
    torch.testing.assert_close(kernel_loss(network, batch), expected)
    assert power_columns


@pytest.fixture
def kernel_file(tmp_path: Path) -> str:
    rows = [{**GEMM, "m": float(m), "gpu": gpu, "power_w": 200.0, "latency_s": 2e-4 * (1 + m / 500)}
            for m in (1, 16, 128, 1024) for gpu in ("A100-SXM4-80GB", "H200-SXM-141GB", "L4")]  # fmt: skip
    return str(write_kernels(kernels(*rows, DECODE, PREFILL), tmp_path / "kernels.csv"))


def test_the_choice_of_kernels_is_even_over_gpu_and_kind(kernel_file: str) -> None:
    chosen = load_kernels(KernelOptions(path=kernel_file, max_rows=5))
    assert chosen.groupby(["gpu", "kind"]).size().to_list() == [1, 1, 1, 1, 1]
    assert len(load_kernels(KernelOptions(path=kernel_file))) == 14


def test_the_kernels_of_a_held_out_gpu_stay_out(kernel_file: str) -> None:
    data = EnergyDataModule(
        split=SplitOptions(kind="gpu", held_out="L4"), kernels=KernelOptions(path=kernel_file)
    )
    data.setup()
    assert data.kernels is not None
    assert {d.gpu_id for d in data.kernels.deployments} == {"A100-SXM4-80GB", "H200-SXM-141GB"}
    assert "L4" not in data.vocabulary.gpus
    assert MICROBENCHMARK in data.vocabulary.engines


def test_kernels_first_then_runs(kernel_file: str, quiet_trainer: Callable[..., pl.Trainer]) -> None:
    """While kernels train alone the runs' engines stay where they are; afterwards they move."""
    data = EnergyDataModule(kernels=KernelOptions(path=kernel_file))
    module = EnergyModule(NetworkOptions(hidden_dim=0), kernels=KernelTraining(epochs=3))
    watch = _Watch()
    quiet_trainer(max_epochs=6, callbacks=[watch]).fit(module, datamodule=data)
    assert watch.moved[:3] == [False] * 3
    assert watch.moved[3:] == [True] * 3
    model = module.model
    assert isinstance(model, PhysicsModel)
    bench = data.vocabulary.engines.index(MICROBENCHMARK) + 1
    assert float(model.network.engine_slot[bench].detach().abs().sum()) > 0.01


class _Watch(pl.Callback):
    """Whether the offsets of a run engine have left their prior's mean, epoch by epoch."""

    def __init__(self) -> None:
        self.moved: list[bool] = []

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, EnergyModule)
        assert isinstance(pl_module.model, PhysicsModel)
        place = pl_module.data.vocabulary.engines.index("hf-eager") + 1
        network = pl_module.model.network
        self.moved.append(bool((network.engine_phase[place] != network.engine_phase_mean[place]).any()))
