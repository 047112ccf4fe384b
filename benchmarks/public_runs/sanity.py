"""Is a table of runs physically possible? Implied power against the limits of the board, time against its memory.

Invariant: nothing is corrected here. A row outside the limits is flagged, counted and said; the caller
decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import pandas as pd

from benchmarks.public_runs.rows import IMPOSSIBLE_TIME, LABELS, add_flag
from llmco2.catalog.gpus import load_gpus
from llmco2.catalog.models import resolve_model
from llmco2.catalog.params import active_parameter_count
from llmco2.catalog.precisions import resolve_precision

ABOVE_LIMIT: Final = "power_above_limit"
BELOW_IDLE: Final = "power_below_idle"
PREFILL_IN_STEPS: Final = (
    "prefill_in_steps"  # energy per token includes prefill that the decode step time lacks
)
_TOLERANCE: Final = 0.10  # boards overshoot their limit and sensors err by about this much
_UNKNOWN_IDLE_SHARE: Final = 0.03  # of TDP: the lowest idle measured on any board of the table


def implied_power_w(runs: pd.DataFrame) -> pd.Series:
    """Return mean power per GPU in W that a row's energy and time imply, NaN where it has not both.

    The whole request where known, else a phase, else the power that the source stated.
    """
    n_gpus = runs["tensor_parallel"] * runs["pipeline_parallel"] * runs["data_parallel"]
    total = runs["energy_j"] / runs["latency_s"]
    prefill = runs["prefill_energy_j"] / runs["ttft_s"]
    decode = runs["decode_energy_j"] / (runs["tpot_s"] * (runs["output_tokens"] - 1))
    return total.fillna(prefill).fillna(decode).fillna(runs["average_power_w"]) / n_gpus


def step_power_w(runs: pd.DataFrame) -> pd.Series:
    """Return W per GPU if a steady batch only decoded: energy per token × batch / time per token."""
    n_gpus = runs["tensor_parallel"] * runs["pipeline_parallel"] * runs["data_parallel"]
    return runs["energy_per_output_token_j"] * runs["batch_size"] / runs["tpot_s"] / n_gpus


def board_limits_w(runs: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """Return (idle, limit) of each row's GPU in W; the limit is the cap where one was set; NaN if unknown."""
    gpus = load_gpus()
    tdp = runs["gpu"].map({name: gpu.tdp_w for name, gpu in gpus.items()}).astype(float)
    idle = runs["gpu"].map({name: gpu.idle_power_w for name, gpu in gpus.items()}).astype(float)
    limit = tdp.where(~(runs["power_limit_w"] < tdp), runs["power_limit_w"])
    return idle.fillna(_UNKNOWN_IDLE_SHARE * tdp), limit


def flag_power(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with a flag on each row whose power is outside the limits of its board.

    Rows of a steady batch whose step would need more than the limit are flagged ``prefill_in_steps``: their
    energy is sound and their step time is sound, but the two do not describe the same work.
    """
    idle, limit = board_limits_w(runs)
    power = implied_power_w(runs)
    flags = add_flag(runs["flags"], power > limit * (1 + _TOLERANCE), ABOVE_LIMIT)
    flags = add_flag(flags, power < idle * (1 - _TOLERANCE), BELOW_IDLE)
    flags = add_flag(flags, step_power_w(runs) > limit * (1 + _TOLERANCE), PREFILL_IN_STEPS)
    return runs.assign(flags=flags)


def least_decode_s(runs: pd.DataFrame) -> pd.Series:
    """Return the seconds that all decode steps take at least: reading the active weights at full bandwidth."""
    gpus = load_gpus()
    bandwidth = runs["gpu"].map({name: gpu.memory_bandwidth_bytes_per_s for name, gpu in gpus.items()})
    active = {name: active_parameter_count(resolve_model(name)) for name in runs["model"].unique()}
    width = {n: resolve_precision(n).weight_bytes_per_element for n in runs["precision"].unique()}
    weights = runs["model"].map(active) * runs["precision"].map(width)
    ranks = runs[["tensor_parallel", "expert_parallel"]].max(axis=1)
    steps = (runs["output_tokens"].astype(float) - 1.0).clip(lower=0.0)
    return steps * weights / ranks / bandwidth.astype(float)


def flag_time(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with a flag on each whose latency is less than its weights take to be read.

    Sources count the tokens that were asked for; a model that ended its answer before made fewer. Speculative decoding
    makes several tokens of one reading and is left alone.
    """
    one_token_a_step = ~runs["engine"].str.contains("speculative")
    short = one_token_a_step & (runs["latency_s"] < least_decode_s(runs))
    return runs.assign(flags=add_flag(runs["flags"], short, IMPOSSIBLE_TIME))


def source_report(runs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per source: rows, rows with each label, median weight, rows outside the power limits."""
    grouped = runs.groupby("source")
    counts: Mapping[str, pd.Series] = {
        "rows": grouped.size(),
        "repeats": grouped["repeats"].sum(),
        **{label: grouped[label].count() for label in LABELS if runs[label].notna().any()},
        "median_weight": grouped["weight"].median(),
    }
    flags = {
        flag: runs["flags"].str.contains(flag, regex=False).groupby(runs["source"]).sum()
        for flag in (ABOVE_LIMIT, BELOW_IDLE, PREFILL_IN_STEPS)
    }
    return pd.DataFrame({**counts, **flags})
