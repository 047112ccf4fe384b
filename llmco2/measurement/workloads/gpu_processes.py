"""Which GPUs the processes of a server compute on.

Invariant: only what the driver and ``/proc`` show counts; a server in a container of its own shows no process here.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Final

from llmco2.measurement.meters.nvml import NvmlDriver
from llmco2.measurement.workloads.server_process import server_processes

_PROC: Final = Path("/proc")


def gpus_of_processes(pids: Collection[int]) -> tuple[int, ...]:
    """Return the indices, among the GPUs in use, of those on which one of ``pids`` computes.

    Raises:
        MeasurementError: there is no driver, or no GPU.
    """
    wanted = frozenset(pids)
    with closing(NvmlDriver()) as driver:
        return tuple(gpu.index for gpu in driver.gpus if wanted & set(gpu.compute_pids() or ()))


def gpus_of_server(url: str, proc: Path = _PROC) -> tuple[int, ...]:
    """Return the GPUs of the processes that listen on the port of ``url``, and of their descendants.

    None are found where the server runs elsewhere, or where its processes cannot be seen from here.

    Raises:
        MeasurementError: there is no driver, or no GPU.
    """
    pids = server_processes(url, proc)
    return gpus_of_processes(pids) if pids else ()
