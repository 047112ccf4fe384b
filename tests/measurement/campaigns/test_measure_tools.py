"""What the command hands to a campaign: names, memory arithmetic, and what a focused draw wants."""

import math

import pandas as pd
import pytest

import llmco2
from llmco2.cli.measure_tools import catalog_name, check_memory, real_rig
from llmco2.data.workload import azure_workload
from llmco2.errors import DoesNotFitError
from llmco2.measurement.campaigns.campaign_file import campaign_from
from llmco2.measurement.workloads.configuration import RunConfiguration

GPU = "H100-SXM5-80GB"
BYTES = 80e9


def test_a_drivers_name_becomes_the_catalogs_and_an_unknown_one_stays():
    assert catalog_name("NVIDIA H100 80GB HBM3") == GPU
    assert catalog_name("NVIDIA Imaginary 9000") == "NVIDIA Imaginary 9000"


def test_what_fits_passes_and_what_does_not_shows_its_arithmetic():
    model = "meta-llama/Llama-3.1-8B"
    check_memory(RunConfiguration(model=model, batch_size=8, prompt_tokens=1024), GPU, BYTES)
    with pytest.raises(DoesNotFitError) as caught:
        check_memory(
            RunConfiguration(model=model, batch_size=256, prompt_tokens=4064, output_tokens=32), GPU, BYTES
        )
    # 8.03e9 weights of two bytes; 32 layers × 8 heads × 128 × keys and values × two bytes × 4096 tokens × 256
    weights_gb, cache_gb = 2 * 8.03, 32 * 8 * 128 * 2 * 2 * 4096 * 256 / 1e9
    words = str(caught.value)
    assert f"weights {weights_gb:.2f}" in words
    assert f"KV cache {cache_gb:.1f}" in words
    assert "expected at most 79.7 GB" in words
    check_memory(RunConfiguration(model="unheard-of", batch_size=65536), GPU, BYTES)  # loading it will tell


def test_a_focused_draw_wants_wide_intervals_of_common_requests(monkeypatch):
    campaign = campaign_from(
        {
            "defaults": {"model": "m", "output_tokens": 128},
            "focused": {"runs": 1, "workload_prior": "conv", "grid": {"prompt_tokens": [1024, 8, 512, 64]}},
        }
    )
    low, high = [1.0, 1.0, 1.0, math.nan], [math.e, math.e, math.e**2, math.nan]
    asked = []

    def predict_frame(requests):
        asked.append(requests)
        return pd.DataFrame({"energy_low_j": low, "energy_high_j": high})

    monkeypatch.setattr(llmco2, "predict_frame", predict_frame, raising=False)
    scores = real_rig(campaign, allow_shared=False).tools.scores(GPU)(campaign.configurations)
    density = azure_workload("conv").density([1024, 8, 512], [128] * 3, [1] * 3)
    assert scores[:3] == pytest.approx([density[0], density[1], 2 * density[2]])
    assert scores[3] == 0.0  # no prediction: left to exploration
    assert scores[0] > 10 * scores[1]
    assert set(asked[0]["gpu"]) == {GPU}
    assert set(asked[0]["engine"]) == {"hf-eager"}
