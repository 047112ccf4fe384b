"""The data card beside a log of kernels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from llmco2.measurement.campaigns.data_card import (
    CONTACT,
    FLAWS,
    WHERE,
    WHY,
    counts,
    distinct,
    time_span,
    value_range,
    write_facts,
)
from llmco2.records.run import KernelMeasurement


def write_kernel_card(log_path: Path, rows: Sequence[KernelMeasurement]) -> Path:
    """Write or refresh the card of ``rows`` and return its path.

    Raises:
        MeasurementError: the card cannot be written, or a file of that name is no card of ours.
    """
    return write_facts(log_path, _facts(log_path, rows), (WHY, WHERE, FLAWS, CONTACT))


def _facts(log_path: Path, rows: Sequence[KernelMeasurement]) -> str:
    good = [row for row in rows if row.status == "ok"]
    failed = [row for row in rows if row.status != "ok"]
    simulated = any(row.simulated for row in rows)
    warning = ["> **SIMULATED.** No real GPU drew any of this. It tests tools; it is not data.", ""]
    lines = [
        *(warning if simulated else []),
        f"{len(rows)} kernels in `{log_path.name}`: {len(good)} measured, {len(failed)} failed.",
        "",
        "| what | value |",
        "| --- | --- |",
        f"| campaign | {distinct(r.source for r in rows)} |",
        f"| GPU (as the driver names it) | {distinct(r.device_name for r in rows)} |",
        f"| driver | {distinct(r.driver_version for r in rows)} |",
        f"| power limit, W | {value_range(r.power_limit_w for r in good)} |",
        f"| idle of one GPU, bare / context loaded, W | {value_range(r.idle_power_w for r in good)} / "
        f"{value_range(r.context_idle_power_w for r in good)} |",
        f"| kinds | {_kinds(good)} |",
        f"| precisions | {counts(r.precision for r in good)} |",
        f"| launched by | {distinct(r.engine_version for r in good)}; {distinct(r.implementation for r in good)} |",
        f"| cold cache | {counts(str(r.cold_cache).lower() for r in good)} |",
        f"| from a CUDA graph | {counts(str(r.cuda_graphs).lower() for r in good)} |",
        f"| energy | {distinct(r.energy_method for r in good)}; gpu_gross |",
        f"| counter period, s | {value_range(r.counter_period_s for r in good)} |",
        f"| windows of a kernel together, s | {value_range(r.window_s for r in good)} |",
        f"| spread between windows, % (median): energy, latency | {_spread(good)} |",
        f"| flags | {counts(f.strip() for r in rows for f in r.flags.split(';') if f.strip())} |",
        f"| failures | {counts((r.failure_reason or '').split(':')[0] for r in failed)} |",
        f"| measured | {time_span([r.measured_at for r in rows if r.measured_at])} |",
        "",
        "Latency and energy are of one launch: a window's seconds and joules over the launches in it, idle",
        "included; mean and spread are over windows. Operands are random normal noise. Where the cache is",
        "cold, they are rotated through three times the last cache. Failed rows carry no label and say why.",
    ]
    return "\n".join(lines)


def _kinds(rows: Sequence[KernelMeasurement]) -> str:
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(Counter(r.kind for r in rows).items()))


def _spread(rows: Sequence[KernelMeasurement]) -> str:
    energy = [100 * r.energy_std_j / r.energy_j for r in rows if r.energy_j and r.energy_std_j is not None]
    latency = [
        100 * r.latency_std_s / r.latency_s for r in rows if r.latency_s and r.latency_std_s is not None
    ]
    return ", ".join(f"{median(values):.2f}" if values else "not known" for values in (energy, latency))
