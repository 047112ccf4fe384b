"""A name of several boards finds their kind and number; one that is no GPU is refused by what it is."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmco2.catalog import tables
from llmco2.catalog.gpus import counted_gpus, load_gpus, resolve_gpu
from llmco2.errors import UnknownNameError


@pytest.mark.parametrize(
    ("name", "gpu_id", "n_gpus"),
    [
        ("p5.48xlarge", "H100-SXM5-80GB", 8),
        ("P5en.48xlarge", "H200-SXM-141GB", 8),
        ("p4d.24xlarge", "A100-SXM4-40GB", 8),
        ("p4de.24xlarge", "A100-SXM4-80GB", 8),
        ("g5.xlarge", "A10G", 1),
        ("g6e.48xlarge", "L40S", 8),
        ("a3-highgpu-8g", "H100-SXM5-80GB", 8),
        ("a2-ultragpu-4g", "A100-SXM4-80GB", 4),
        ("g2-standard-24", "L4", 2),
        ("ND96isr_H100_v5", "H100-SXM5-80GB", 8),
        ("Standard_ND96isr_H100_v5", "H100-SXM5-80GB", 8),
        ("standard_nc80adis_h100_v5", "H100-NVL-94GB", 2),
        ("BM.GPU.MI300X.8", "MI300X", 8),
        ("gpu_1x_gh200", "GH200-96GB", 1),
        ("DGX H100", "H100-SXM5-80GB", 8),
        ("GB200 NVL72", "GB200-186GB", 72),
        ("gpu:h100:4", "H100-SXM5-80GB", 4),
        ("gres/gpu:a100=2", "A100-SXM4-80GB", 2),
        ("gpu:nvidia_h100_80gb_hbm3:8(S:0-1)", "H100-SXM5-80GB", 8),
        ("H100:8", "H100-SXM5-80GB", 8),
        ("8xH100", "H100-SXM5-80GB", 8),
        ("A100 x 4", "A100-SXM4-80GB", 4),
        ("2 × L40S", "L40S", 2),
        ("8xMI300X", "MI300X", 8),
    ],
)
def test_a_name_of_several_boards_gives_their_kind_and_number(name: str, gpu_id: str, n_gpus: int) -> None:
    boards = counted_gpus(name)
    assert boards is not None
    assert (resolve_gpu(name).gpu_id, boards.n_gpus) == (gpu_id, n_gpus)


@pytest.mark.parametrize(
    "name", ["H100", "MI300X", "RTX-4090", "A100-80GB", "gpu:4", "8xUnknown", "0xH100", ""]
)
def test_a_name_of_one_board_or_none_counts_nothing(name: str) -> None:
    assert counted_gpus(name) is None


def test_no_name_of_a_board_is_read_as_several() -> None:
    for gpu in load_gpus().values():
        for name in (gpu.gpu_id, *gpu.aliases, *gpu.nvml_names):
            assert counted_gpus(name) is None, name


def test_every_instance_names_a_board_of_the_table_and_its_source() -> None:
    rows = tables.read_table("instances.csv", ("name", "gpu_id", "n_gpus", "source", "confidence"))
    assert len(rows) > 100
    assert len({row["name"].casefold() for row in rows}) == len(rows)
    for row in rows:
        assert row["gpu_id"] in load_gpus(), row["name"]
        assert 1 <= int(row["n_gpus"]) <= 72, row["name"]
        assert row["source"], row["name"]
        assert row["confidence"] in {"high", "medium"}, row["name"]
        assert bool(row["retrieved"]) == (row["confidence"] == "high"), row["name"]


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("TPU v4", "a Google TPU"),
        ("v5e-8", "a Google TPU"),
        ("Trillium", "a Google TPU"),
        ("trn2.48xlarge", "an AWS Trainium"),
        ("Inferentia2", "an AWS Trainium or Inferentia"),
        ("Ascend 910B", "a Huawei Ascend NPU"),
        ("Groq LPU", "a Groq LPU"),
        ("Cerebras WSE-3", "a Cerebras wafer"),
        ("SN40L", "a SambaNova RDU"),
        ("Graphcore Bow IPU", "a Graphcore IPU"),
        ("Tenstorrent Wormhole n300", "a Tenstorrent chip"),
        ("Cambricon MLU370", "a Cambricon MLU"),
        ("Hygon DCU K100", "another vendor"),
        ("Apple M3 Max", "an Apple chip"),
        ("M2 Ultra", "an Apple chip"),
        ("AMD EPYC 9654", "a CPU"),
        ("c7i.metal", "a cloud instance without GPUs"),
        ("n2-standard-16", "a cloud machine without GPUs"),
    ],
)
def test_what_is_no_gpu_is_refused_by_what_it_is(name: str, what: str) -> None:
    with pytest.raises(UnknownNameError, match=what) as caught:
        resolve_gpu(name)
    assert "neither CPUs nor other accelerators" in str(caught.value)
    assert "did you mean" not in str(caught.value)


def test_an_instance_that_is_not_known_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"did you mean .*p5\.48xlarge"):
        resolve_gpu("p5.24xlarge")


@settings(derandomize=True, max_examples=50, deadline=None)
@given(gpu_id=st.sampled_from(sorted(load_gpus())), n_gpus=st.integers(1, 1024))
def test_every_board_may_be_counted_in_every_spelling(gpu_id: str, n_gpus: int) -> None:
    for name in (
        f"{n_gpus}x{gpu_id}",
        f"{gpu_id} x {n_gpus}",
        f"gpu:{gpu_id}:{n_gpus}",
        f"{gpu_id}:{n_gpus}",
    ):
        boards = counted_gpus(name)
        assert boards is not None, name
        assert (boards.n_gpus, resolve_gpu(name).gpu_id) == (n_gpus, gpu_id)
