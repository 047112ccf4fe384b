"""alejandroldz/LLM-Energy-Benchmark (MIT): an A2, which sits at its 60 W limit, under four engines.

Rules: the tracker's window must be the inference's own (within 5 %; longer ones include loading); time to
first token and per token are kept at batch 1, where they add up to the latency, because at larger batches the
source divides by the batch; quantised rows have the lowest trust, and widths that no precision stands for (2,
3, 5, 6 bit) are dropped; speculative decoding is an engine of its own.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

from benchmarks.public_runs.rows import describe, finish, need_columns, weight_of_trust

SOURCE = "alejandroldz"
_COLUMNS = (
    "base_model",
    "model_id",
    "gpu",
    "engine_id",
    "engine",
    "dtype",
    "batch_size",
    "prompt_tokens",
    "output_tokens",
    "energy_j",
    "avg_power_w",
    "latency_s",
    "ttft_s",
    "tpot_s",
    "cpu_energy_j",
    "ram_energy_j",
    "window_over_inference",
    "notes",
)
_LONGEST_WINDOW = 1.05
_POWER_LIMIT_W = 60.0
_PRECISIONS: Final = {
    "16": "bf16",
    "f16": "fp16",
    "fp8": "fp8",
    "8": "int8",
    "int8": "int8",
    "q8_0": "int8",
    "4": "int4",
    "nf4": "int4",
    "nf4_double": "int4",
    "fp4": "int4",
    "awq": "int4",
    "gptq": "int4",
    "q4_k_l": "int4",
    "iq4_xs": "int4",
}


def convert(raw: pd.DataFrame) -> pd.DataFrame:
    """Return whole-request rows, without codecarbon's CPU and memory energies, which are modelled."""
    need_columns(raw, _COLUMNS, SOURCE)
    precision = raw["dtype"].astype(str).str.casefold().map(_PRECISIONS).where(raw["dtype"].notna(), "bf16")
    keep = precision.notna() & raw["base_model"].notna() & (raw["window_over_inference"] <= _LONGEST_WINDOW)
    raw, precision = raw[keep], precision[keep]
    single = raw["batch_size"] == 1
    quantised = precision.isin(["int8", "int4", "fp8"])
    task = raw["notes"].astype(str).str.extract(r"task=(\w+)", expand=False)
    rows = pd.DataFrame(
        {
            "source": SOURCE,
            "model": raw["base_model"],
            "gpu": raw["gpu"],
            "engine": raw["engine_id"],
            "engine_version": raw["engine"].str.extract(r"(spec=\w+)", expand=False),
            "precision": precision,
            "batch_size": raw["batch_size"],
            "prompt_tokens": raw["prompt_tokens"].round(1),
            "output_tokens": raw["output_tokens"].round(),
            "energy_j": raw["energy_j"],
            "latency_s": raw["latency_s"],
            "ttft_s": raw["ttft_s"].where(single),
            "tpot_s": raw["tpot_s"].where(single),
            "average_power_w": raw["avg_power_w"],
            "power_limit_w": _POWER_LIMIT_W,
            "energy_method": "integrated_power",
            "weight": np.where(quantised, weight_of_trust(1), weight_of_trust(3)),
            "flags": np.where(quantised, "doubtful_quantised", ""),
            "notes": describe(
                raw.assign(_task=task), {"model_id": "model_id", "task": "_task", "dtype": "dtype"}
            ),
        }
    )
    return finish(rows)
