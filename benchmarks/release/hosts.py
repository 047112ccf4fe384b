"""Fit the host constants of serving stacks to the times of measured runs, with kernels pinned.

Few constants a stack, each with a prior; robust least squares on logarithms (``scipy.optimize.least_squares``). Rows of
one deployment share their errors, so a deployment's weight grows with the root of its rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from llmco2.kernel_model.curves import StepCurves
from llmco2.physics.hosts import HOST_CONSTANTS
from llmco2.physics.phase_times import HostColumns, PhaseTimes, RequestColumns, phase_times

Array = NDArray[np.float64]
NOISE: Final = 0.06  # of a log time about a right answer
# Mean and standard deviation of each constant before a run is seen: seconds, or a factor (in logs about its mean).
PRIORS: Final[Mapping[str, tuple[float, float]]] = {
    "step_s": (0.5e-3, 1e-3),
    "sequence_s": (5e-6, 5e-5),
    "expert_layer_s": (0.0, 3e-5),
    "block_expert_layer_s": (0.0, 5e-5),
    "launch_s": (9e-5, 5e-5),
    "prefill_step_s": (0.0, 3e-3),
    "prefill_factor": (1.0, 0.15),
    "kernel_factor": (1.0, 0.02),
    "cache_passes": (3.0, 2.0),
}
_SERVER: Final = ("step_s", "sequence_s")
_EAGER: Final = ("launch_s", "prefill_factor", "kernel_factor", "cache_passes")
_OLD_SERVER: Final = {"step_s": (3e-3, 3e-3), "sequence_s": (5e-5, 1e-4)}
_EAGER_FACTORS: Final = {"prefill_factor": (2.0, 1.0), "kernel_factor": (1.5, 0.5)}


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFit:
    """Which constants of a stack are fitted, from which sources, with what priors in place of PRIORS."""

    free: tuple[str, ...]
    sources: tuple[str, ...]
    priors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    boards: str = ""  # a part of the board's name; empty: all
    unfused: bool = False  # the time over measured kernels is spent in passes that draw little


_ARGONNE: Final = ("argonne_power", "argonne_latency")
FITS: Final[Mapping[str, HostFit]] = {
    "vllm": HostFit(
        free=_SERVER,
        sources=("powertrace_decode", "llmservingsim"),
        priors={"step_s": (0.8e-3, 0.4e-3), "sequence_s": (2.5e-5, 1.5e-5)},
    ),
    "vllm-0.11": HostFit(free=(*_SERVER, "expert_layer_s", "block_expert_layer_s"), sources=("mlenergy_v3",)),
    "vllm-0.7": HostFit(
        free=(*_SERVER, "prefill_step_s", "prefill_factor", "kernel_factor"),
        sources=_ARGONNE,
        priors=_OLD_SERVER,
    ),
    "vllm-0.5": HostFit(
        free=_SERVER, sources=("mlenergy_v2",), priors={"step_s": (1e-2, 1e-2), "sequence_s": (1e-4, 3e-4)}
    ),
    "sglang": HostFit(
        free=(*_SERVER, "prefill_factor"),
        sources=("inferencex_r1",),
        priors={"step_s": (0.3e-3, 0.3e-3)},
        boards="H200",
    ),
    "tensorrt-llm": HostFit(free=(*_SERVER, "prefill_factor"), sources=("inferencex_r1",)),
    "tensorrt-llm-0": HostFit(free=(*_SERVER, "prefill_factor", "kernel_factor"), sources=_ARGONNE),
    "deepspeed-mii": HostFit(
        free=(*_SERVER, "prefill_factor", "kernel_factor"), sources=_ARGONNE, priors=_OLD_SERVER
    ),
    "splitwise-server": HostFit(
        free=(*_SERVER, "prefill_step_s", "prefill_factor", "kernel_factor"),
        sources=("splitwise",),
        priors={**_OLD_SERVER, "step_s": (5e-3, 5e-3), "prefill_step_s": (5e-3, 1e-2)},
    ),
    "hf-eager": HostFit(
        free=_EAGER,
        sources=("joulebench", "mlenergy_legacy", "wilkins_nocache"),
        priors=_EAGER_FACTORS,
        unfused=True,
    ),
    "hf-autocast": HostFit(free=_EAGER, sources=("dfki",), priors=_EAGER_FACTORS),
    "hf-bitsandbytes": HostFit(
        free=("launch_s", "prefill_factor", "kernel_factor"),
        sources=("joulebench", "ecocompute"),
        priors={"launch_s": (2e-4, 2e-4), "prefill_factor": (2.0, 1.0), "kernel_factor": (1.5, 1.0)},
    ),
    "hf-gptq": HostFit(
        free=("prefill_factor", "kernel_factor"),
        sources=("joulebench",),
        priors={"prefill_factor": (4.0, 1.5), "kernel_factor": (4.0, 1.5)},
        fixed={"launch_s": 6.9e-5},
    ),
    "llama.cpp": HostFit(
        free=(*_SERVER, "prefill_factor", "kernel_factor"),
        sources=("alejandroldz",),
        priors={"prefill_factor": (2.0, 1.0), "kernel_factor": (1.3, 0.3)},
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedRequests:
    """Requests of one stack with the time that was measured of each, ``(n,)``; ``what`` names it."""

    request: RequestColumns
    measured_s: Array
    what: NDArray[np.object_]  # latency | step | prefill | tpot
    weight: Array  # 0 to 1, how far the source is trusted
    board_factor: Array


def fit_host(curves: StepCurves, timed: TimedRequests, fit: HostFit) -> dict[str, float]:
    """Return the constants of a stack; those that are not fitted are left out."""
    priors = {**PRIORS, **fit.priors}
    free, target = fit.free, np.log(timed.measured_s)
    share = np.bincount(timed.request.deployment)[timed.request.deployment] ** -0.25

    def constants(point: Array) -> dict[str, float]:
        own = dict(fit.fixed)
        for name, value in zip(free, point.tolist(), strict=True):
            own[name] = float(np.exp(value)) if _is_factor(name) else value * priors[name][1]
        return own

    def misfit(point: Array) -> Array:
        predicted = predicted_s(curves, timed, constants(point))
        error = (np.log(predicted) - target) / NOISE * np.sqrt(timed.weight) * share
        robust = np.sign(error) * np.sqrt(2.0 * (np.sqrt(1.0 + error**2) - 1.0))
        return np.concatenate([robust, _prior_misfit(free, priors, point)])

    start = np.array([_start(name, priors[name]) for name in free])
    low = np.array([-3.0 if _is_factor(name) else 0.0 for name in free])
    high = np.array([3.0 if _is_factor(name) else 1e4 for name in free])
    found = least_squares(misfit, np.clip(start, low + 1e-6, high), bounds=(low, high))
    own = {name: float(f"{value:.6g}") for name, value in constants(found.x).items() if value > 1e-12}
    if fit.unfused:
        own["busy_factor"] = float(f"{1.0 / own['kernel_factor']:.6g}")
    return own


def predicted_s(curves: StepCurves, timed: TimedRequests, constants: Mapping[str, float]) -> Array:
    """Return the times that the constants give, ``(n,)``, each as its label was measured."""
    n = len(timed.measured_s)
    columns = {name: np.full(n, float(name.endswith("_factor"))) for name in HOST_CONSTANTS}
    columns["board_factor"] = timed.board_factor
    for name, value in constants.items():
        columns[name] = np.full(n, value)
    times: PhaseTimes = phase_times(curves, timed.request, HostColumns(**columns))
    chosen: Array = np.select(
        [timed.what == "step", timed.what == "prefill", timed.what == "tpot"],
        [times.step_s, times.prefill_s, times.tpot_s],
        times.prefill_s + times.decode_s,
    )
    return chosen


def take(request: RequestColumns, rows: NDArray[np.intp]) -> RequestColumns:
    """Return some rows of requests."""
    return RequestColumns(**{f.name: getattr(request, f.name)[rows] for f in fields(RequestColumns)})


def _is_factor(name: str) -> bool:
    return name.endswith("_factor")


def _start(name: str, prior: tuple[float, float]) -> float:
    return float(np.log(prior[0])) if _is_factor(name) else max(prior[0] / prior[1], 0.1)


def _prior_misfit(free: tuple[str, ...], priors: Mapping[str, tuple[float, float]], point: Array) -> Array:
    mean = np.array([np.log(priors[n][0]) if _is_factor(n) else priors[n][0] / priors[n][1] for n in free])
    spread = np.array([priors[n][1] if _is_factor(n) else 1.0 for n in free])
    return np.asarray((point - mean) / spread, dtype=np.float64)
