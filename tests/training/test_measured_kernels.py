"""Kernels that ``llmco2 measure --kernels`` wrote train and are judged like those that others published."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy.kernel_transfer import countable, counted
from llmco2.catalog.gpus import resolve_gpu
from llmco2.cli.main import main
from llmco2.data.kernel_tensors import kernel_tensors, load_kernels
from llmco2.data.options import KernelOptions
from llmco2.data.tables import read_kernels, write_kernels
from llmco2.errors import FileFormatError, InputError

GPU = resolve_gpu("H100-SXM5-80GB")
CAMPAIGN = """
kernels:
  - {kind: gemm, m: [8, 2048], n: 4096, k: 4096, precision: [bf16, fp32]}
  - {kind: prefill_attention, batch_size: 2, context_tokens: 1024, n_heads: 32, n_kv_heads: 8, head_dim: 128}
  - {kind: decode_attention, batch_size: 16, context_tokens: 2048, n_heads: 32, n_kv_heads: 8, head_dim: 128}
  - {kind: moe, m: 4096, n: 768, k: 2048, n_experts: 128, experts_per_token: 8}
  - {kind: rms_norm, m: 16, n: 4096}
  - {kind: copy, m: 100000000, n: 4096}
"""
OF_MODELS = ["gemm"] * 4 + ["prefill_attention", "decode_attention", "moe"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measured")
    (folder / "k.yaml").write_text(CAMPAIGN)
    output = folder / "kernels.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        assert (
            main(["measure", "--kernels", str(folder / "k.yaml"), "--output", str(output), "--simulate"]) == 0
        )
    return output


@pytest.fixture(scope="module")
def table(measured: Path) -> pd.DataFrame:
    return read_kernels(measured, allow_simulated=True)


def test_failed_kernels_are_left_out_and_counted(table: pd.DataFrame) -> None:
    assert list(table["kind"]) == [*OF_MODELS, "rms_norm"]
    assert table.attrs["excluded_failed"] == 1
    assert table["latency_s"].notna().all()


def test_simulated_kernels_are_refused_unless_asked_for(measured: Path) -> None:
    with pytest.raises(InputError, match="holds simulated rows: got 8 of 8"):
        load_kernels(KernelOptions(path=str(measured)))
    assert len(load_kernels(KernelOptions(path=str(measured), allow_simulated=True))) == len(OF_MODELS)


def test_the_tensors_carry_what_was_measured_and_count_the_same_work(measured: Path) -> None:
    chosen = load_kernels(KernelOptions(path=str(measured), allow_simulated=True))
    tensors = kernel_tensors(chosen)
    assert len(tensors) == len(OF_MODELS)
    np.testing.assert_allclose(tensors.latency_s.numpy(), chosen["latency_s"], rtol=1e-6)
    np.testing.assert_allclose(tensors.power_w.numpy(), chosen["power_w"], rtol=1e-6)
    peaks = np.array([GPU.peak_flops_per_s[name] for name in chosen["precision"]])
    flops = tensors.basis.compute_s.double().numpy().sum(1) * peaks
    activation = np.where(
        chosen["kind"] == "moe", 8.0 * 4096 * 8 * 768, 0.0
    )  # the row counts its products alone
    np.testing.assert_allclose(flops, chosen["flops"] + activation, rtol=1e-5)


def test_the_judge_of_transfer_counts_every_kernel_of_a_model(table: pd.DataFrame) -> None:
    kernels = counted(countable(table[table["kind"] != "rms_norm"]))
    assert list(kernels.kind) == OF_MODELS
    # simulated launches are a roofline of 60 % of the peak, 80 % of the bandwidth: never faster than the peak
    assert (kernels.roofline_s < np.exp(kernels.log_latency)).all()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_every_column_survives_every_format(table: pd.DataFrame, tmp_path: Path, suffix: str) -> None:
    path = write_kernels(table, tmp_path / f"again.{suffix}")
    again = read_kernels(path, allow_simulated=True)
    # an empty cell of a CSV means that nobody read it; the others tell that from "nothing throttled"
    kept = table.assign(throttle_reasons=None) if suffix == "csv" else table
    pd.testing.assert_frame_equal(again, kept, check_exact=False, rtol=1e-12)


def test_a_kernel_that_succeeded_without_a_time_is_no_measurement(
    table: pd.DataFrame, tmp_path: Path
) -> None:
    broken: Any = table.assign(latency_s=[np.nan, *table["latency_s"].iloc[1:]])
    path = write_kernels(broken, tmp_path / "broken.csv")
    with pytest.raises(FileFormatError, match=r"broken\.csv: kernels that were not timed: got 1 of 8"):
        read_kernels(path, allow_simulated=True)
