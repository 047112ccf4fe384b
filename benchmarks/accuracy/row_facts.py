"""What is known of a measured row beside its errors: where it comes from, how rare it is, and what binds it.

Invariant: every evaluated row has exactly one value of each kind, so parts add up to the whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.shipped import measured_log_energy
from llmco2.data.module import EnergyDataModule, Index
from llmco2.data.workload import azure_workload
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, PhaseBasis
from llmco2.records.request import UNKNOWN

N_DECILES: Final = 10
REGIMES: Final = ("memory", "compute", "network", "host")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """One value per row of the table, ``(n_runs,)`` each."""

    source: NDArray[np.str_]
    engine: NDArray[np.str_]
    deployment: NDArray[np.intp]  # equal where rows differ in size alone
    decile: NDArray[
        np.intp
    ]  # 1: the tenth of the evaluated rows that the workload prior finds rarest; 10: commonest
    regime: NDArray[np.str_]  # what decode waits for
    measured_j: NDArray[np.float64]  # energy, joules; the geometric mean where several are known


def row_facts(data: EnergyDataModule, evaluated: Index) -> RowFacts:
    """Return the facts of every row; deciles are cut among the evaluated rows."""
    frame = data.frame
    engine = frame["engine"].fillna(UNKNOWN).astype(str).to_numpy(dtype=str)
    return RowFacts(
        source=frame["source"].astype(str).to_numpy(dtype=str),
        engine=engine,
        deployment=data.tensors.deployment.numpy().astype(np.intp),
        decile=workload_deciles(azure_workload().weights(frame), evaluated),
        regime=decode_regimes(data.tensors.bases[1]),
        measured_j=np.exp(measured_log_energy(data)),
    )


def workload_deciles(density: NDArray[np.float64], evaluated: Index) -> NDArray[np.intp]:
    """Return each row's decile, 1 to 10 from rare to common; equal densities share one."""
    ends = np.quantile(density[evaluated], np.arange(1, N_DECILES) / N_DECILES)
    decile: NDArray[np.intp] = np.searchsorted(ends, density, side="right") + 1
    return decile


def decode_regimes(decode: PhaseBasis) -> NDArray[np.str_]:
    """Return what each row's decode spends most time on, before any constant is fitted.

    Seconds at peak rate are multiplied by the readout's initial inverse efficiencies; the host's are its initial
    seconds per step, per launch and per sequence, and the launches' own.
    """
    initial = {name: limits[2] for name, limits in {**SLOT_COEFFICIENTS, **PHASE_COEFFICIENTS}.items()}

    def seconds(*names: str) -> NDArray[np.float64]:
        parts = [initial[name] * getattr(decode, f"{name}_s").sum(1).double().numpy() for name in names]
        total: NDArray[np.float64] = np.sum(parts, axis=0)
        return total

    launches = decode.launches.sum(1).double().numpy()
    host = initial["host_step_s"] * decode.steps.double().numpy()
    host = host + (initial["host_launch_s"] + initial["launch_s"]) * launches
    host = host + initial["host_sequence_s"] * decode.sequence_steps.double().numpy()
    table = {
        "memory": seconds("weight", "activation", "kv"),
        "compute": seconds("compute"),
        "network": seconds("network"),
        "host": host,
    }
    longest = np.argmax(np.stack([table[name] for name in REGIMES]), axis=0)
    regimes: NDArray[np.str_] = np.array(REGIMES)[longest]
    return regimes
