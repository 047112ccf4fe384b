"""The columns of an answer: what a request row becomes once it is predicted.

Invariant: an answer keeps the request's columns, in their order, and adds these after them. Readers rely on
the names; the order is that of the report: energy, time, power, carbon, verdict, what was understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llmco2.records.request import REQUEST_COLUMNS

# Energies are joules of the whole batch over all its GPUs. Low and high are the ends of 90 % intervals;
# lower_bound and upper_bound are physical.
ANSWER_COLUMNS: Final = (
    "prefill_energy_j",
    "decode_energy_j",
    "energy_j",
    "energy_low_j",
    "energy_high_j",
    "energy_lower_bound_j",
    "energy_upper_bound_j",
    "energy_per_output_token_j",
    "energy_per_total_token_j",
    "ttft_s",
    "tpot_s",
    "latency_s",
    "ttft_low_s",
    "ttft_high_s",
    "tpot_low_s",
    "tpot_high_s",
    "latency_low_s",
    "latency_high_s",
    "average_power_w",
    "operational_gco2e",
    "embodied_gco2e",
    "in_domain",
    "notes",
    "error",
)
# What a steady rate of requests needs and causes in a year, where a rate was given.
YEARLY_COLUMNS: Final = (
    "gpus_needed",
    "energy_per_year_kwh",
    "operational_per_year_kgco2e",
    "embodied_per_year_kgco2e",
)
# What the request's names were taken to mean; empty where a name means nothing.
RESOLVED_COLUMNS: Final = (
    "resolved_model",
    "resolved_gpu",
    "resolved_n_gpus",
    "resolved_engine",
    "resolved_precision",
    "resolved_kv_precision",
    "precision_by_part",  # "attention fp8-block, experts fp8-block, lm_head bf16, …, KV bf16"
)
FRAME_COLUMNS: Final = REQUEST_COLUMNS + ANSWER_COLUMNS + RESOLVED_COLUMNS
REQUIRED_COLUMNS: Final = ("model", "gpu")
ZONE_COLUMN: Final = "zone"  # of a row's own, in place of the whole table's; no part of the request


def misspelt_column(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the first column that can only be a slip, and the request column that it means.

    Columns of a person's own (an id, a measured label) stand beside those of requests. One that reads like a
    request column but for case, punctuation or a plural (``batchsize``, ``gpus``) would otherwise be kept as
    one of these while its request took the default.
    """
    read = (*REQUEST_COLUMNS, ZONE_COLUMN)
    meant = {_folded(name): name for name in read if name not in names}
    for name in names:
        if name not in read and _folded(name) in meant:
            return name, meant[_folded(name)]
    return None


def _folded(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum()).removesuffix("s")
