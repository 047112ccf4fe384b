"""Where the time and the energy of a phase go: parts that add up to the whole.

Invariant: the parts of the time add up to the phase's time and the parts of the energy to its energy, for every
request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from llmco2.kernel_model.step import PARTS
from llmco2.physics.power import (
    ACTIVATION_BYTE_COST,
    CACHE_BYTE_COST,
    NETWORK_J_PER_BYTE,
    Column,
    PowerColumns,
    Work,
)

HOST: Final = "host"
TIME_PARTS: Final = (*PARTS, HOST)
ENERGY_PARTS: Final = (
    "weights",
    "cache",
    "activations",
    "arithmetic",
    "communication",
    "running_kernels",  # what a GPU draws because kernels run, whatever they move
    "idle_in_kernels",  # idle power while kernels run
    "idle_in_host",  # idle power while the GPU waits for its host
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Parts of a phase: seconds ``(n_requests, len(TIME_PARTS))`` and joules ``(n_requests, len(ENERGY_PARTS))``."""

    time_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]


def phase_breakdown(
    *,
    kernels_s: NDArray[np.float64],
    time_s: Column,
    power: PowerColumns,
    work: Work,
    busy: Column,
    energy_j: Column,
    n_gpus: Column,
) -> Breakdown:
    """Return the parts of a phase; the dynamic energy is shared in proportion to each part's unlimited demand."""
    kernel_total = kernels_s.sum(axis=1)
    # Kernels launched one by one may hide behind the host: their share of the time is what the phase took.
    shown = np.minimum(kernel_total, time_s)
    scale = np.divide(shown, kernel_total, out=np.zeros_like(shown), where=kernel_total > 0.0)
    times = np.column_stack([kernels_s * scale[:, None], time_s - shown])
    idle = power.idle_w * time_s * n_gpus
    idle = np.minimum(idle, energy_j)
    demands = np.column_stack(
        [
            power.byte_j * work.weight_bytes,
            power.byte_j * CACHE_BYTE_COST * work.cache_bytes,
            power.byte_j * ACTIVATION_BYTE_COST * work.activation_bytes,
            power.flop_j * work.flops16,
            NETWORK_J_PER_BYTE * work.network_bytes,
            power.busy_share * power.reference_w * busy * time_s,
        ]
    )
    total = demands.sum(axis=1)
    share = np.divide(demands, total[:, None], out=np.zeros_like(demands), where=total[:, None] > 0.0)
    dynamic = share * (energy_j - idle)[:, None]
    rest = np.where(total > 0.0, 0.0, energy_j - idle)  # no work at all: everything is idle power
    return Breakdown(
        time_s=times,
        energy_j=np.column_stack([dynamic, idle * busy, idle * (1.0 - busy) + rest]),
    )
