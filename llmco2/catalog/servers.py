"""Host power: what a server draws beside its GPUs (CPUs, memory, network, fans), W per GPU.

Invariant: idle ≤ typical ≤ maximum, each with where it came from; a GPU that no server row names takes the
generic row, and the answer says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

from llmco2.catalog import tables

GENERIC_SERVER_ID: Final = "generic"
_FILE: Final = "servers.csv"
_COLUMNS: Final = (
    "server_id", "gpu_ids", "host_idle_w_per_gpu", "host_typical_w_per_gpu", "host_max_w_per_gpu",
    "basis", "source", "date", "confidence",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPower:
    """Power of a server without its GPUs, W per GPU."""

    server_id: str
    idle_w: float
    typical_w: float
    max_w: float
    basis: str  # measured, modelled, rated, assumed
    source: str
    date: str
    confidence: str  # high | medium | low


@cache
@tables.shipped(_FILE)
def _by_gpu() -> tuple[Mapping[str, HostPower], HostPower]:
    """Return host power by GPU, and the generic answer."""
    rows = tables.read_table(_FILE, _COLUMNS)
    generic_row = next((row for row in rows if row["server_id"] == GENERIC_SERVER_ID), None)
    if generic_row is None:
        raise tables.damaged(_FILE, f"no row {GENERIC_SERVER_ID!r}")
    generic_idle_w = tables.number(generic_row, "host_idle_w_per_gpu", f"{_FILE}, {GENERIC_SERVER_ID}")
    by_gpu: dict[str, HostPower] = {}
    for row in rows:
        host = _host(row, generic_idle_w)
        by_gpu.update({gpu_id.casefold(): host for gpu_id in tables.names(row, "gpu_ids")})
    return by_gpu, _host(generic_row, generic_idle_w)


def _host(row: Mapping[str, str], generic_idle_w: float) -> HostPower:
    where = f"{_FILE}, {row['server_id']}"
    idle_w = tables.optional_number(row, "host_idle_w_per_gpu", where)
    source = tables.text(row, "source", where)
    return HostPower(
        server_id=row["server_id"],
        idle_w=generic_idle_w if idle_w is None else idle_w,
        typical_w=tables.number(row, "host_typical_w_per_gpu", where),
        max_w=tables.number(row, "host_max_w_per_gpu", where),
        basis=row["basis"],
        source=source if idle_w is not None else f"{source}; idle: that of the generic server",
        date=tables.text(row, "date", where),
        confidence=tables.text(row, "confidence", where),
    )


def host_power_for(gpu_id: str) -> HostPower:
    """Return the host power of the server that usually carries ``gpu_id``, or of the generic 8-GPU server."""
    by_gpu, generic = _by_gpu()
    return by_gpu.get(gpu_id.casefold(), generic)
