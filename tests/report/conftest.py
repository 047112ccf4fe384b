"""A footprint whose every figure is chosen by hand, so that each can be looked for in the text."""

from __future__ import annotations

import pytest

from llmco2.records.footprint import Carbon, Factor, Footprint, Interval, PhaseEnergy
from llmco2.records.request import InferenceRequest


def phase(
    energy_j: float, low: float, high: float, bounds: tuple[float, float], time_s: float
) -> PhaseEnergy:
    return PhaseEnergy(
        energy_j=energy_j,
        energy_interval_j=Interval(low=low, high=high),
        energy_bounds_j=Interval(low=bounds[0], high=bounds[1], coverage=1.0),
        time_s=time_s,
        average_power_w=energy_j / time_s,
    )


@pytest.fixture
def footprint() -> Footprint:
    return Footprint(
        request=InferenceRequest(
            model="meta-llama/Llama-3.1-8B-Instruct",
            gpu="H100-SXM5-80GB",
            tensor_parallel=2,
            engine="vllm-0.11",
            precision="bf16",
            kv_precision="bf16",
            batch_size=8,
            prompt_tokens=512,
            output_tokens=256,
        ),
        n_gpus=2,
        prefill=phase(64.0, 50.0, 80.0, (20.0, 134.4), 0.08),
        decode=phase(1136.0, 900.0, 1400.0, (300.0, 3440.0), 2.32),
        total=phase(1200.0, 960.0, 1470.0, (320.0, 3574.4), 2.4),
        ttft_s=0.08,
        tpot_s=0.0090625,
        latency_s=2.4,
        energy_per_output_token_j=1200.0 / (8 * 256),
        energy_per_total_token_j=1200.0 / (8 * 768),
        carbon=Carbon(
            operational_gco2e=0.0236,
            embodied_gco2e=0.0118,
            operational_interval_gco2e=Interval(low=0.0150, high=0.0444),
            embodied_interval_gco2e=Interval(low=0.0030, high=0.0805),
            facility_energy_kwh=0.00052,
            factors=(
                Factor(
                    name="carbon_intensity",
                    value=45.4,
                    unit="gCO2e/kWh",
                    source="FRA (France): Electricity Review",
                    date="2024",
                    low=41.4,
                    high=56.0,
                ),
                Factor(name="pue", value=1.2, unit="1", source="given by the user", date=""),
            ),
        ),
        memory_needed_bytes=8.5 * 2**30,
        memory_available_bytes=80 * 2**30,
        in_domain=True,
        notes=("the interval is calibrated on runs of the same engine",),
        predictor="default-2026-11",
        precision_by_part="weights bf16, KV bf16",
    )
