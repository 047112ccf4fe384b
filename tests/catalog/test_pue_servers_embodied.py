"""PUE, host power and embodied carbon: the tables against their own arithmetic, an answer for every GPU."""

from __future__ import annotations

import pytest

from llmco2.catalog import tables
from llmco2.catalog.embodied import (
    embodied_for,
    estimate_gpu_embodied_kgco2e,
    estimate_server_embodied_kgco2e,
)
from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.pue import has_pue, pue_for
from llmco2.catalog.servers import host_power_for
from llmco2.errors import UnknownNameError

CONFIDENCES = {"high", "medium", "low"}


@pytest.mark.parametrize("file_name", ["pue.csv", "servers.csv", "embodied.csv"])
def test_every_shipped_row_has_a_source_a_date_and_a_confidence(file_name: str) -> None:
    date = "year" if file_name == "pue.csv" else "date"
    rows = tables.read_table(file_name, ("source", date, "retrieved", "confidence"))
    for row in rows:
        assert row["source"], row
        assert row[date], row
        assert row["retrieved"], row
        assert row["confidence"] in CONFIDENCES, row
        text = " ".join(row.values()).casefold()
        assert "boavizta" not in text, row
        assert "recalled" not in text, row


def test_the_pue_of_a_provider_is_its_newest_figure() -> None:
    azure = pue_for("Azure")
    assert (azure.pue, azure.low, azure.high, azure.date) == (1.17, 1.17, 1.18, "2025")


def test_the_pue_of_an_unnamed_site_spans_the_best_fleet_and_the_worst_survey() -> None:
    average = pue_for()
    assert (average.pue, average.low, average.high, average.date) == (1.54, 1.08, 1.58, "2025")


def test_a_provider_without_a_figure_is_refused_by_name() -> None:
    assert not has_pue("scaleway")
    with pytest.raises(UnknownNameError, match="PUE provider"):
        pue_for("scaleway")


def test_host_power_is_ordered_for_every_gpu() -> None:
    for gpu_id in load_gpus():
        host = host_power_for(gpu_id)
        assert 0.0 <= host.idle_w <= host.typical_w <= host.max_w, gpu_id
        assert host.confidence in CONFIDENCES
        assert host.source


def test_host_power_computed_by_hand() -> None:
    a100 = host_power_for("a100-sxm4-80gb")
    # package + memory + rest over eight GPUs: idle (57.9 + 219.3 + 96) / 8, full (626.8 + 1262.9 + 96) / 8
    assert a100.idle_w == pytest.approx(373.2 / 8, abs=0.06)
    assert a100.max_w == pytest.approx(1985.7 / 8, abs=0.3)
    # 8.48 kW measured on an HGX H100 server less 8 × 700 W
    assert host_power_for("H100-SXM5-80GB").max_w == (8480 - 8 * 700) / 8


def test_a_gpu_without_a_server_takes_the_generic_one() -> None:
    assert host_power_for("Some-New-GPU").server_id == "generic"


def test_every_gpu_of_the_catalog_has_an_embodied_figure_with_a_stated_confidence() -> None:
    listed = {row["item"] for row in tables.read_table("embodied.csv", ("item",))}
    for gpu_id in load_gpus():
        answer = embodied_for(gpu_id)
        for part in (answer.gpu, answer.server_share):
            assert 0.0 < part.low_kgco2e < part.mid_kgco2e < part.high_kgco2e, gpu_id
            assert part.confidence in CONFIDENCES, gpu_id
            assert part.source, gpu_id
            assert part.date, gpu_id
        if gpu_id not in listed:
            assert answer.gpu.confidence == "low", gpu_id
            assert "nearest card" in answer.gpu.source, gpu_id


def test_the_range_is_as_wide_as_published_figures_disagree() -> None:
    for gpu_id in load_gpus():
        part = embodied_for(gpu_id).gpu
        assert part.high_kgco2e >= 2.4 * part.mid_kgco2e, gpu_id


def test_the_published_footprint_of_the_h100_board_is_split_over_its_gpus() -> None:
    assert embodied_for("H100-SXM5-80GB").gpu.mid_kgco2e == 1312 / 8


def test_the_estimate_reproduces_the_card_it_is_scaled_from_and_meets_the_teardown_within_a_fifth() -> None:
    assert estimate_gpu_embodied_kgco2e(8.14, 80, 700) == pytest.approx(164.0, rel=1e-12)
    assert estimate_gpu_embodied_kgco2e(8.26, 40, 400) == pytest.approx(127.6, rel=0.2)


def test_every_estimated_row_follows_from_its_own_columns() -> None:
    rows = tables.read_table("embodied.csv", ("kind", "item", "die_cm2", "memory_gb", "tdp_w", "n_gpus"))
    estimated = [row for row in rows if row["source"].startswith("estimate from die area")]
    assert len(estimated) > 30
    for row in estimated:
        kgco2e = estimate_gpu_embodied_kgco2e(
            *(float(row[name]) for name in ("die_cm2", "memory_gb", "tdp_w"))
        )
        ends = [float(row[f"{end}_kgco2e"]) for end in ("low", "mid", "high")]
        assert ends == [round(0.6 * kgco2e), round(kgco2e), round(3 * kgco2e)], row["item"]
        assert row["confidence"] == "low"


def test_every_server_share_follows_from_its_own_columns() -> None:
    rows = tables.read_table("embodied.csv", ("kind", "item", "n_gpus", "n_cpus", "dram_gb", "n_ssds"))
    servers = [row for row in rows if row["item"].startswith("server: ")]
    assert len(servers) == 5
    for row in servers:
        kgco2e = estimate_server_embodied_kgco2e(
            int(row["n_gpus"]), int(row["n_cpus"]), float(row["dram_gb"]), int(row["n_ssds"])
        )
        assert float(row["mid_kgco2e"]) == round(kgco2e), row["item"]


def test_the_embodied_table_speaks_of_the_cards_of_the_gpu_table() -> None:
    gpus = load_gpus()
    for row in tables.read_table("embodied.csv", ("kind", "item", "memory_gb", "tdp_w")):
        if row["kind"] == "gpu" and row["item"] in gpus:
            gpu = gpus[row["item"]]
            # nominal here, what the driver reports there
            assert float(row["memory_gb"]) == pytest.approx(gpu.memory_bytes / 2**30, rel=0.1), row["item"]
            assert float(row["tdp_w"]) == pytest.approx(gpu.tdp_w, rel=0.1), row["item"]


def test_a_gpu_that_no_table_lists_takes_the_nearest_card_and_says_which() -> None:
    answer = embodied_for("Future-X", memory_gb=81, tdp_w=690)
    assert answer.gpu.mid_kgco2e == 164.0
    assert answer.gpu.confidence == "low"
    assert "nearest card, H100-SXM5-80GB" in answer.gpu.source
    assert answer.gpu.item == "Future-X"


def test_the_size_in_a_name_is_enough_and_a_bare_name_takes_a_middle_class() -> None:
    assert "nearest card, H200-NVL-141GB" in embodied_for("B999-140GB").gpu.source
    assert "nearest card, L40S" in embodied_for("Foo 48GB").gpu.source
    # not the 60 W module that has the very same memory
    assert "nearest card, H100-PCIe-80GB" in embodied_for("Foo 64GB").gpu.source
    assert "A100-SXM4-80GB" in embodied_for("Mystery").gpu.source
