"""Roofline time with rated power, and with power between idle and rated.

Sources: power × time as in Lacoste et al., "Quantifying the Carbon Emissions of Machine Learning" (arXiv 1910.09700);
the time is the roofline's (Williams, Waterman, Patterson, CACM 52(4), 2009); power that grows linearly with utilisation
is that of Fan, Weber, Barroso, "Power provisioning for a warehouse-sized computer" (ISCA 2007)::

    time = Σ over kernels max(FLOPs / peak, bytes / bandwidth, sent bytes / link rate)
    rated:   energy = GPUs × TDP × time
    linear:  energy = GPUs × [idle + (TDP − idle) × utilisation] × time,  utilisation = Σ FLOPs / peak / time

Nothing is fitted: kernels follow each other at peak rates, without launch, host or scheduling time.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.accuracy.answers import phase_answers
from benchmarks.accuracy.baselines.work import Array, PhaseWork, RequestWork, unanswered


def rated_power(requests: pd.DataFrame, work: RequestWork) -> pd.DataFrame:
    """Return the answers of TDP × roofline time."""
    prefill, decode = work.prefill.roofline_s, work.decode.roofline_s
    power = work.n_gpus * work.tdp_w
    return unanswered(
        phase_answers(requests, power * prefill, prefill, power * decode, decode), work.answered
    )


def linear_power(requests: pd.DataFrame, work: RequestWork) -> pd.DataFrame:
    """Return the answers of idle-to-TDP power × roofline time."""
    costs = [(_linear_j(phase, work), phase.roofline_s) for phase in (work.prefill, work.decode)]
    return unanswered(phase_answers(requests, *costs[0], *costs[1]), work.answered)


def _linear_j(phase: PhaseWork, work: RequestWork) -> Array:
    """Return joules of all GPUs: idle over the whole time, the rest of TDP while they compute at peak."""
    idle_j = work.n_gpus * work.idle_w * phase.roofline_s
    computing_j: Array = work.n_shards * (work.tdp_w - work.idle_w) * np.sum(phase.compute_s, axis=1)
    return idle_j + computing_j
