"""A roofline with nine constants for all boards, models and engines, fitted to runs of other (board, model) groups.

Source: EnergyMeter-style linear energy of work and time on a roofline (Williams et al., CACM 52(4), 2009)::

    kernel = max(compute / e_c, weights / e_w + activations and cache / e_a) + network / e_n + launches × t_launch
    time   = Σ kernels + steps × t_step
    energy = shards × TDP × Σ [p_c · compute + p_m · memory] + GPUs × (idle + p_s · TDP) × time

where compute, weights, … are seconds at peak rates. Fitted by least squares of soft-l1 log errors of all energies and
times of trusted runs, each label of a run with the same weight.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.accuracy.answers import label_predictions, phase_answers
from benchmarks.accuracy.baselines.folds import N_FOLDS, fold_of_runs
from benchmarks.accuracy.baselines.work import Array, PhaseWork, RequestWork, unanswered
from benchmarks.accuracy.workload import Workload

_SOFT_ERROR: Final = 0.2  # log error beyond which a row pulls linearly
_SLOTS: Final = ("compute_s", "weight_s", "activation_s", "network_s", "launches")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """The nine constants, in the order they are fitted in."""

    compute_efficiency: float
    weight_efficiency: float
    activation_efficiency: float  # of activations, cache and state
    network_efficiency: float
    launch_s: float
    step_s: float
    compute_share: float  # of TDP, dynamic, while a GPU computes at peak
    memory_share: float  # of TDP, dynamic, while memory moves at peak
    static_share: float  # of TDP, above idle, all the time


# Lowest, initial and highest value of each.
RANGES: Final = {
    "compute_efficiency": (0.02, 0.6, 1.0),
    "weight_efficiency": (0.05, 0.8, 1.0),
    "activation_efficiency": (0.02, 0.5, 1.0),
    "network_efficiency": (0.01, 0.4, 1.0),
    "launch_s": (1e-7, 4e-6, 1e-3),
    "step_s": (1e-6, 2e-3, 0.3),
    "compute_share": (0.01, 0.5, 1.5),
    "memory_share": (0.01, 0.4, 1.5),
    "static_share": (1e-3, 0.15, 0.8),
}


def phase_cost(constants: Constants, phase: PhaseWork, work: RequestWork) -> tuple[Array, Array]:
    """Return energy (J, all GPUs) and time (s) of a phase; the formulas are this module's."""
    memory_s = (
        phase.weight_s / constants.weight_efficiency + phase.activation_s / constants.activation_efficiency
    )
    kernel_s = np.maximum(phase.compute_s / constants.compute_efficiency, memory_s)
    kernel_s = kernel_s + phase.network_s / constants.network_efficiency + phase.launches * constants.launch_s
    time_s = kernel_s.sum(axis=1) + phase.steps * constants.step_s
    moving_s = phase.weight_s + phase.activation_s
    busy_s = (constants.compute_share * phase.compute_s + constants.memory_share * moving_s).sum(axis=1)
    static_w = work.n_gpus * (work.idle_w + constants.static_share * work.tdp_w)
    return work.n_shards * work.tdp_w * busy_s + static_w * time_s, time_s


def answers(constants: Constants, requests: pd.DataFrame, work: RequestWork) -> pd.DataFrame:
    """Return the formula's answers."""
    prefill, decode = (phase_cost(constants, phase, work) for phase in (work.prefill, work.decode))
    return unanswered(phase_answers(requests, *prefill, *decode), work.answered)


def left_out_predictions(workload: Workload, work: RequestWork, n_folds: int = N_FOLDS) -> pd.DataFrame:
    """Return predictions of all labels, each from constants fitted without its (board, model) group."""
    work = _without_empty_slots(work)
    fold = fold_of_runs(workload.runs, n_folds)
    found = pd.DataFrame(np.nan, index=workload.labels.index, columns=["predicted", "low", "high"])
    for number in np.unique(fold):
        constants = fit_constants(workload, work, fold != number)
        judged = fold[workload.labels["run"]] == number
        found[judged] = label_predictions(workload, answers(constants, workload.requests, work))[judged]
    return found


def fit_constants(workload: Workload, work: RequestWork, chosen: NDArray[np.bool_]) -> Constants:
    """Return the constants fitted to the trusted ones of the runs ``chosen``, ``(n_runs,)``."""
    from scipy.optimize import least_squares  # noqa: PLC0415 - of an extra

    part, own = _part(workload, work, chosen & workload.runs["trusted"].to_numpy())
    measured = np.log(part.labels["measured"].to_numpy(dtype=np.float64))
    of_run = part.labels["run"].to_numpy()
    weight = np.sqrt(1.0 / np.bincount(of_run, minlength=len(part.runs))[of_run])

    def residuals(logs: Array) -> Array:
        table = label_predictions(part, answers(_constants(logs), part.requests, own))
        errors = np.log(table["predicted"].to_numpy(dtype=np.float64)) - measured
        return np.asarray(weight * np.nan_to_num(errors))

    low, initial, high = np.log(np.array([RANGES[f.name] for f in fields(Constants)])).T
    fit = least_squares(
        residuals, initial, bounds=(low, high), loss="soft_l1", f_scale=_SOFT_ERROR, max_nfev=40
    )
    return _constants(fit.x)


def _constants(logs: Array) -> Constants:
    return Constants(**{f.name: float(v) for f, v in zip(fields(Constants), np.exp(logs), strict=True)})


def _without_empty_slots(work: RequestWork) -> RequestWork:
    """Return the work without slots that no request has: they cost time in every step of the fit."""
    used = (work.prefill.launches + work.decode.launches).sum(axis=0) > 0.0
    kept = [replace(p, **{n: getattr(p, n)[:, used] for n in _SLOTS}) for p in (work.prefill, work.decode)]
    return replace(work, prefill=kept[0], decode=kept[1])


def _part(workload: Workload, work: RequestWork, chosen: NDArray[np.bool_]) -> tuple[Workload, RequestWork]:
    """Return the workload of chosen runs, energies and times that are not watts, with its work."""
    new = np.cumsum(chosen) - 1
    request = np.flatnonzero(chosen[workload.run_of_request])
    labels = workload.labels[
        chosen[workload.labels["run"]] & (workload.labels["quantity"] != "power").to_numpy()
    ]
    part = Workload(
        runs=workload.runs[chosen].reset_index(drop=True),
        requests=workload.requests.iloc[request].reset_index(drop=True),
        run_of_request=new[workload.run_of_request[request]],
        share=workload.share[request],
        is_step=workload.is_step[request],
        labels=labels.assign(run=new[labels["run"]]).reset_index(drop=True),
    )
    return part, work.take(request)
