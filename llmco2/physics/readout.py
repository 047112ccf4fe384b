"""The physical readout: from roofline times and coefficients to the time and energy of a phase.

Invariant: every formula here works for numpy arrays and torch tensors alike (``xp`` is the module), so that what is
trained is what predicts. Time is never under the roofline, power never over the limit, and both never fall when a
request grows, because coefficients do not depend on its size and every term does so monotonically.

    kernel time   t = (compute ⊕ memory) + network + launches·launch_s      ⊕: smooth maximum
    phase time    T = (Σ t ⊕ host time) ⊕ power-limited time
    host time     steps·a + launches·b + (sequences of each step)·c
    energy        E = n_gpus·idle·T
                      + shards·[TDP·(active·Σ t + Σ network_s·e_n) + W_c·Σ compute_s·e_c + W_m·Σ traffic_s·e_m]

W_c and W_m are what compute and memory of the board's technology draw at peak rate (``power_levels``).

Each resource's seconds (at peak rate) are multiplied by a factor ≥ 1. For products and weights that factor is an
inverse efficiency, and dynamic energy is charged per second of work at peak rate, so that slowness costs static power
only. For activations and the cache it is mostly traffic that counting leaves out (copies, unfused kernels, heads
expanded in memory), so its energy is charged in full. GPUs of idle pipeline stages pay idle power meanwhile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

Array = Any  # numpy.ndarray or torch.Tensor

# Coefficients of a slot and of a phase with the range physics allows them; initial values are priors, then fitted:
# each name has its lowest, highest and initial value.
# An inverse efficiency is time over the roofline time; powers are shares of the reference power of compute and memory,
# and of TDP for the network and for what flows whatever runs.
SLOT_COEFFICIENTS: Final = {
    "compute": (1.0, 25.0, 1.6),
    "weight": (1.0, 12.0, 1.25),
    "activation": (1.0, 12.0, 2.0),
    "kv": (1.0, 40.0, 1.3),
    "network": (1.0, 40.0, 2.5),
    "launch_s": (1e-7, 1e-4, 3e-6),
    "compute_power": (0.05, 2.5, 0.5),
    "memory_power": (0.1, 5.0, 1.0),
    "network_power": (0.01, 1.0, 0.15),
}
PHASE_COEFFICIENTS: Final = {
    "host_step_s": (1e-6, 0.3, 1e-3),
    "host_launch_s": (1e-8, 2e-4, 2e-6),
    "host_sequence_s": (1e-7, 2e-3, 1.5e-5),
    "idle_power": (0.04, 0.6, 0.16),
    "active_power": (0.005, 0.6, 0.12),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseBasis:
    """What a phase needs at peak rates; slot arrays ``(n_requests, n_slots)``, the rest ``(n_requests,)``."""

    compute_s: Array
    weight_s: Array
    activation_s: Array
    kv_s: Array
    network_s: Array
    launches: Array
    steps: Array
    sequence_steps: Array  # Σ over steps of the sequences in each, which a scheduler handles one by one
    n_gpus: Array
    n_shards: Array  # GPUs that work at the same time: n_gpus over pipeline stages
    tdp_w: Array
    compute_w: Array  # reference powers: see llmco2.deployment.power_levels
    memory_w: Array
    power_limit_w: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseReadout:
    """Time (s) and energy (J, all GPUs) of a phase, each ``(n_requests,)``."""

    time_s: Array
    energy_j: Array
    kernel_time_s: Array  # (n_requests, n_slots)


def smooth_maximum(xp: ModuleType, a: Array, b: Array) -> Array:
    """Return ``(a^4 + b^4)^(1/4)`` for non-negative ``a`` and ``b``: never under either, 19 % over equal ones.

    Written with products and roots, which are several times faster than powers, and safe at zero.
    """
    larger = xp.maximum(a, b)
    square = (xp.minimum(a, b) / (larger + 1e-30)) ** 2
    return larger * xp.sqrt(xp.sqrt(1.0 + square * square))


def kernel_times_s(xp: ModuleType, basis: PhaseBasis, slot: dict[str, Array]) -> Array:
    """Return the time of each slot, all its launches, ``(n_requests, n_slots)``."""
    compute = slot["compute"] * basis.compute_s
    memory = (
        slot["weight"] * basis.weight_s + slot["activation"] * basis.activation_s + slot["kv"] * basis.kv_s
    )
    overheads = slot["network"] * basis.network_s + slot["launch_s"] * basis.launches
    return smooth_maximum(xp, compute, memory) + overheads


def dynamic_energy_j(basis: PhaseBasis, slot: dict[str, Array]) -> Array:
    """Return the energy of switching on one GPU of each stage, J, ``(n_requests,)``."""
    traffic_s = basis.weight_s + slot["activation"] * basis.activation_s + slot["kv"] * basis.kv_s
    return (
        basis.compute_w * (slot["compute_power"] * basis.compute_s).sum(-1)
        + basis.memory_w * (slot["memory_power"] * traffic_s).sum(-1)
        + basis.tdp_w * (slot["network_power"] * basis.network_s).sum(-1)
    )


def phase_readout(
    xp: ModuleType, basis: PhaseBasis, slot: dict[str, Array], phase: dict[str, Array]
) -> PhaseReadout:
    """Return time and energy of a phase; slot coefficients ``(n_requests, n_slots)``, phase ``(n_requests,)``."""
    kernels = kernel_times_s(xp, basis, slot)
    busy_s = kernels.sum(-1)
    host_s = (
        phase["host_step_s"] * basis.steps
        + phase["host_launch_s"] * basis.launches.sum(-1)
        + phase["host_sequence_s"] * basis.sequence_steps
    )
    working_j = (
        dynamic_energy_j(basis, slot) + basis.tdp_w * phase["active_power"] * busy_s
    )  # one GPU per stage
    idle_w = basis.tdp_w * phase["idle_power"]
    # A GPU at its limit slows down until what it draws fits: idle + work / time <= limit.
    idle_w = xp.minimum(idle_w, 0.9 * basis.power_limit_w)
    limited_s = working_j / (basis.power_limit_w - idle_w)
    time_s = smooth_maximum(xp, smooth_maximum(xp, busy_s, host_s), limited_s)
    energy_j = basis.n_gpus * idle_w * time_s + basis.n_shards * working_j
    return PhaseReadout(time_s=time_s, energy_j=energy_j, kernel_time_s=kernels)


def score_of(value: float, low: float, high: float, initial: float) -> float:
    """Return the score at which :func:`bounded` gives ``value``, which lies between ``low`` and ``high``."""
    span = math.log(high / low)
    share, initial_share = math.log(value / low) / span, math.log(initial / low) / span
    slope = 1.0 / (span * initial_share * (1.0 - initial_share))
    return (math.log(share / (1.0 - share)) - math.log(initial_share / (1.0 - initial_share))) / slope


def bounded(xp: ModuleType, score: Array, low: float, high: float, initial: float) -> Array:
    """Return a coefficient in (low, high), log-spaced, that is ``initial`` at score 0 and moves about e per unit.

    The logistic curve is scaled so that its slope in log space is one at score 0.
    """
    span = math.log(high / low)
    share = math.log(initial / low) / span
    offset = math.log(share / (1.0 - share))
    slope = 1.0 / (span * share * (1.0 - share))
    return low * xp.exp(span / (1.0 + xp.exp(-(offset + slope * score))))
