"""The GPU table states dense peaks in SI units, and any name a person or a driver uses finds its board."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmco2.catalog import uncovered
from llmco2.catalog.gpus import load_gpus, resolve_gpu
from llmco2.errors import FileFormatError, UnknownNameError

DATASHEET = {
    "gpu_id": "Prototype-X1",
    "architecture": "Next",
    "fp16_tflops": 1000,
    "bf16_tflops": 1000,
    "memory_gib": 64,
    "memory_bandwidth_gb_per_s": 4000,
    "tdp_w": 500,
}


def write_json(folder: Path, value: object) -> str:
    path = folder / "sheet.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return str(path)


def test_h100_sxm_is_stated_dense_and_in_si():
    gpu = load_gpus()["H100-SXM5-80GB"]
    assert gpu.peak_flops_per_s["bf16"] == pytest.approx(989.4e12)  # 1979 is the figure with sparsity
    assert gpu.peak_flops_per_s["fp8"] == pytest.approx(1978.9e12)
    assert gpu.memory_bandwidth_bytes_per_s == pytest.approx(3.35e12)
    assert gpu.memory_bytes == pytest.approx(81_559 * 2**20, rel=1e-3)  # what the driver reports
    assert gpu.interconnect_bytes_per_s == pytest.approx(450e9)  # one direction of 900 GB/s
    assert gpu.pcie_bytes_per_s == pytest.approx(64e9)
    assert gpu.tdp_w == 700


# SMs × clock (GHz) × dense 16-bit FLOP per SM and clock, from the architecture whitepapers.
@pytest.mark.parametrize(
    ("gpu_id", "n_sms", "clock_ghz", "flop_per_sm_clock"),
    [
        ("V100-SXM2-16GB", 80, 1.53, 1024),
        ("V100-PCIe-16GB", 80, 1.38, 1024),
        ("V100S-PCIe-32GB", 80, 1.597, 1024),
        ("T4", 40, 1.59, 1024),
        ("A100-SXM4-80GB", 108, 1.41, 2048),
        ("A800-PCIe-80GB", 108, 1.41, 2048),
        ("A30", 56, 1.44, 2048),
        ("A10", 72, 1.695, 1024),
        ("A2", 10, 1.77, 1024),
        ("A40", 84, 1.74, 1024),
        ("RTX-4090", 128, 2.52, 512),
        ("RTX-4090D", 114, 2.52, 512),
        ("RTX-3090", 82, 1.695, 512),
        ("RTX-A5000", 64, 1.695, 1024),
        ("L4", 58, 2.04, 1024),
        ("L40S", 142, 2.49, 1024),
        ("H100-SXM5-80GB", 132, 1.83, 4096),
        ("H100-PCIe-80GB", 114, 1.62, 4096),
        ("RTX-5090", 170, 2.407, 512),
        ("RTX-2080-Ti", 68, 1.545, 512),
        ("Quadro-RTX-8000", 72, 1.77, 1024),
        ("RTX-3090-Ti", 84, 1.86, 512),
        ("RTX-A5500", 80, 1.665, 1024),
        ("RTX-4070-Ti-SUPER", 66, 2.61, 512),
        ("RTX-5070-Ti", 70, 2.452, 512),
        ("RTX-5060-Ti-16GB", 36, 2.572, 512),
        ("RTX-PRO-6000-Max-Q", 188, 2.288, 1024),
        ("RTX-PRO-5000-Blackwell-48GB", 110, 2.377, 1024),
        ("GB10-128GB", 48, 2.54, 1024),
        ("Jetson-AGX-Thor-128GB", 20, 1.575, 8192),
        ("Arc-A770-16GB", 32, 2.0, 2048),
        ("Arc-Pro-B60-24GB", 20, 2.4, 2048),
        ("MI350X", 256, 2.2, 4096),
        ("MI355X", 256, 2.4, 4096),
        ("MI300A", 228, 2.1, 2048),
        ("P100-SXM2-16GB", 56, 1.48, 256),  # no tensor cores: twice the 64 lanes x 2 of FP32
        ("MI100", 120, 1.502, 1024),
        ("MI210", 104, 1.7, 1024),
        ("MI250", 208, 1.7, 1024),
        ("MI300X", 304, 2.1, 2048),
    ],
)
def test_16_bit_peaks_follow_from_units_and_clock(gpu_id, n_sms, clock_ghz, flop_per_sm_clock):
    gpu = load_gpus()[gpu_id]
    assert gpu.n_sms == n_sms
    assert gpu.peak_flops_per_s["fp16"] == pytest.approx(
        n_sms * clock_ghz * 1e9 * flop_per_sm_clock, rel=0.02
    )


def test_precisions_exist_only_where_the_chip_has_them():
    for gpu in load_gpus().values():
        if gpu.architecture in {"Pascal", "Volta", "Turing"}:
            assert "bf16" not in gpu.peak_flops_per_s, gpu.gpu_id
        if gpu.vendor == "NVIDIA":
            assert ("fp8" in gpu.peak_flops_per_s) == (
                gpu.architecture in {"Ada", "Hopper", "Blackwell", "Blackwell Ultra"}
            ), gpu.gpu_id
            assert ("fp4" in gpu.peak_flops_per_s) == gpu.architecture.startswith("Blackwell"), gpu.gpu_id
        assert min(gpu.peak_flops_per_s.values()) > 1e12, gpu.gpu_id


def test_boards_with_capped_nvlink_differ_from_their_twin_in_nothing_else():
    gpus = load_gpus()
    for twin, capped, ratio in (
        ("A100-PCIe-80GB", "A800-PCIe-80GB", 1.5),
        ("A100-SXM4-80GB", "A800-SXM4-80GB", 1.5),
        ("H100-SXM5-80GB", "H800-SXM5-80GB", 2.25),
    ):
        assert gpus[twin].peak_flops_per_s == gpus[capped].peak_flops_per_s
        assert gpus[twin].interconnect_bytes_per_s / gpus[capped].interconnect_bytes_per_s == ratio
        assert gpus[twin].memory_bandwidth_bytes_per_s == gpus[capped].memory_bandwidth_bytes_per_s


def test_every_row_names_its_source_and_unverified_rows_claim_no_high_confidence():
    for gpu in load_gpus().values():
        assert gpu.source, gpu.gpu_id
        assert gpu.confidence in {"high", "medium", "low"}, gpu.gpu_id
        assert gpu.retrieved or gpu.confidence != "high", gpu.gpu_id


@pytest.mark.parametrize(
    ("name", "gpu_id"),
    [
        ("NVIDIA H100 80GB HBM3", "H100-SXM5-80GB"),
        ("NVIDIA H100 PCIe", "H100-PCIe-80GB"),
        ("NVIDIA H100 NVL", "H100-NVL-94GB"),
        ("NVIDIA H200", "H200-SXM-141GB"),
        ("NVIDIA A100-SXM4-80GB", "A100-SXM4-80GB"),
        ("NVIDIA A100-SXM4-40GB", "A100-SXM4-40GB"),
        ("NVIDIA A100-PCIE-40GB", "A100-PCIe-40GB"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIe-80GB"),
        ("NVIDIA A800 80GB PCIe", "A800-PCIe-80GB"),
        ("Tesla V100-SXM2-16GB", "V100-SXM2-16GB"),
        ("Tesla V100-PCIE-16GB", "V100-PCIe-16GB"),
        ("Tesla T4", "T4"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("NVIDIA GeForce RTX 4090 D", "RTX-4090D"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
        ("NVIDIA GH200 480GB", "GH200-96GB"),
        ("NVIDIA B200", "B200-SXM-180GB"),
        ("AMD Instinct MI300X", "MI300X"),
        ("H100", "H100-SXM5-80GB"),
        ("h100 sxm", "H100-SXM5-80GB"),
        ("A100", "A100-SXM4-80GB"),
        ("a100-40gb", "A100-SXM4-40GB"),
        ("a100_pcie_80gb", "A100-PCIe-80GB"),
        ("V100", "V100-SXM2-16GB"),
        ("rtx4090", "RTX-4090"),
        ("JetsonOrin", "Jetson-AGX-Orin-64GB"),
        ("GeForce RTX 2080 Ti", "RTX-2080-Ti"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "RTX-4070-Ti-SUPER"),
        ("NVIDIA RTX 4000 SFF Ada Generation", "RTX-4000-SFF-Ada"),
        ("Quadro RTX 8000", "Quadro-RTX-8000"),
        ("Tesla P100-PCIE-16GB", "P100-PCIe-16GB"),
        ("P100", "P100-PCIe-16GB"),
        ("Tesla P40", "P40"),
        ("NVIDIA GH200 120GB", "GH200-96GB"),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("Orin Nano", "Jetson-Orin-Nano-8GB"),
        ("A100-80G", "A100-SXM4-80GB"),
        ("V100-32G", "V100-SXM2-32GB"),
        ("A10G", "A10G"),
        ("AMD Instinct MI350X", "MI350X"),
        ("MI300A", "MI300A"),
        ("Gaudi 3", "Gaudi3"),
        ("NVIDIA GB10", "GB10-128GB"),
        ("DGX Spark", "GB10-128GB"),
        ("Jetson Thor", "Jetson-AGX-Thor-128GB"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX-PRO-6000-Max-Q"),
        ("RTX PRO 4500", "RTX-PRO-4500-Blackwell"),
        ("RTX PRO 5000", "RTX-PRO-5000-Blackwell-48GB"),
        ("GeForce RTX 5060 Ti", "RTX-5060-Ti-16GB"),
        ("Intel(R) Arc(TM) A770 Graphics", "Arc-A770-16GB"),
        ("Arc Pro B60", "Arc-Pro-B60-24GB"),
    ],
)
def test_names_people_and_drivers_use(name, gpu_id):
    assert resolve_gpu(name).gpu_id == gpu_id


@pytest.mark.parametrize("name", ["GH200-96GB", "GH200-144GB", "GB200-186GB", "GB300-288GB"])
def test_the_limit_of_a_superchip_is_that_of_one_gpu_without_its_cpu(name):
    limits_w = {"GH200-96GB": 700, "GH200-144GB": 700, "GB200-186GB": 1200, "GB300-288GB": 1400}
    assert load_gpus()[name].tdp_w == limits_w[name]


def test_gpus_of_2025_are_stated_dense_not_sparse():
    gpus = load_gpus()
    assert gpus["GB10-128GB"].peak_flops_per_s["fp4"] == 500e12  # 1 PFLOP is with sparsity
    assert gpus["Jetson-AGX-Thor-128GB"].peak_flops_per_s["fp4"] == 1035e12  # of 2070
    assert gpus["RTX-PRO-5000-Blackwell-48GB"].peak_flops_per_s["fp4"] == 1071e12  # of 2142
    assert gpus["Gaudi3"].peak_flops_per_s["bf16"] == gpus["Gaudi3"].peak_flops_per_s["fp8"] == 1835e12


def test_every_id_alias_and_driver_name_finds_its_own_row():
    for gpu in load_gpus().values():
        for name in (gpu.gpu_id, *gpu.aliases, *gpu.nvml_names):
            assert resolve_gpu(name).gpu_id == gpu.gpu_id, name


@given(data=st.data())
def test_case_spaces_and_dashes_never_matter(data):
    gpu_id = data.draw(st.sampled_from(sorted(load_gpus())))
    mangled = "".join(
        data.draw(st.sampled_from(["", " ", "-", "_"])) + data.draw(st.sampled_from([c.lower(), c.upper()]))
        for c in gpu_id
    )
    assert resolve_gpu(mangled).gpu_id == gpu_id


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean RTX-4090") as caught:
        resolve_gpu("RTX 4091")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("RTX 6000", "several boards are called so: say Quadro-RTX-6000, RTX-A6000, RTX-6000-Ada"),
        ("RTX 4000", "several boards are called so: say RTX-A4000, RTX-4000-Ada"),
        ("gpu:4", "it does not say which GPU"),
        ("RTX 4090 Laptop GPU", "a laptop's GPU is another chip"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "a slice of a board"),
        ("GRID A100-10C", "a slice of a board"),
        ("Apple M2 Ultra", "neither CPUs nor other accelerators"),
        ("Intel Xeon", "neither CPUs nor other accelerators"),
        ("TPU v4", "neither CPUs nor other accelerators"),
    ],
)
def test_a_name_that_says_too_little_or_too_much_is_refused_with_what_to_say(name, message):
    with pytest.raises(UnknownNameError, match=message) as caught:
        resolve_gpu(name)
    assert "did you mean" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_name_of_the_table_is_one_that_would_be_refused_by_its_kind():
    for gpu in load_gpus().values():
        for name in (gpu.gpu_id, *gpu.aliases, *gpu.nvml_names):
            assert uncovered.why_no_gpu(name, name) == "", name


@given(st.text(max_size=40))
def test_any_text_resolves_or_is_refused_in_one_line(name):
    said = None
    try:
        resolve_gpu(name)
    except (UnknownNameError, FileFormatError) as error:
        said = str(error)
    assert said is None or len(said.splitlines()) == 1


def test_a_datasheet_of_ones_own_is_read_in_table_units(tmp_path):
    gpu = resolve_gpu(write_json(tmp_path, DATASHEET))
    assert gpu.gpu_id == "Prototype-X1"
    assert gpu.peak_flops_per_s == {"fp16": 1e15, "bf16": 1e15}
    assert gpu.memory_bytes == 64 * 2**30
    assert gpu.interconnect_bytes_per_s == gpu.pcie_bytes_per_s == 32e9  # no link given: PCIe Gen4 x16


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ({k: v for k, v in DATASHEET.items() if k != "tdp_w"}, "tdp_w is missing"),
        (DATASHEET | {"tdp_w": "hot"}, "tdp_w is no number: got 'hot'"),
        (DATASHEET | {"tdp_w": True}, "tdp_w is no number"),
        (DATASHEET | {"memory_gib": -1}, "memory_gib is no number: got -1"),
        (DATASHEET | {"n_sms": None, "turbo": 1}, "unknown key: got turbo"),
        ({k: v for k, v in DATASHEET.items() if not k.endswith("tflops")}, "no peak rate"),
        ([DATASHEET], "holds no JSON object: got list"),
        ('{"gpu_id": "X", "tdp', "not valid JSON"),
        ('{"gpu_id": "X", "tdp_w": NaN, "bf16_tflops": 1, "memory_gib": 1}', "is missing|is no number"),
        ("\x00\x01", "not valid JSON"),
    ],
)
def test_a_bad_datasheet_is_refused_in_one_line(tmp_path, sheet, message):
    with pytest.raises(FileFormatError, match=message) as caught:
        resolve_gpu(write_json(tmp_path, sheet))
    assert "\n" not in str(caught.value)


def test_a_datasheet_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FileFormatError, match="cannot read"):
        resolve_gpu(str(tmp_path / "none.json"))
