"""Host constants of serving stacks as columns: read from a checkpoint, borrowed from a relative where none are known.

Invariant: constants belong to an engine's generation; a board enters only by the family of its kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

import numpy as np

from llmco2.deployment.deployment import Deployment
from llmco2.physics.phase_times import HostColumns
from llmco2.records.engines import ENGINES

HOST_CONSTANTS: Final = tuple(f.name for f in fields(HostColumns))
_NEUTRAL: Final = {name: float(name.endswith("_factor")) for name in HOST_CONSTANTS}


def known_host(engine: str, hosts: Mapping[str, Any]) -> str:
    """Return the engine whose constants stand for ``engine``: itself or its nearest fitted relative; "" for none."""
    seen: set[str] = set()
    while engine and engine not in hosts and engine not in seen:
        seen.add(engine)
        engine = ENGINES[engine].relative
    return engine if engine in hosts else ""


def host_columns(
    deployments: Sequence[Deployment], hosts: Mapping[str, Any], boards: Mapping[str, float]
) -> HostColumns:
    """Return the constants of every deployment's stack, ``(n_deployments,)`` each.

    Args:
        deployments: whose engines name the stacks.
        hosts: engine → constant → value, in seconds or as a factor; what is absent is neutral.
        boards: GPU architecture → kernels' time over that of measured kernels, where none of its kernels was measured.
    """
    rows = []
    for deployment in deployments:
        own = {**_NEUTRAL, **hosts.get(known_host(deployment.engine, hosts), {})}
        own["board_factor"] = boards.get(deployment.gpu.architecture, 1.0)
        rows.append([own[name] for name in HOST_CONSTANTS])
    table = np.array(rows, dtype=np.float64).reshape(len(rows), len(HOST_CONSTANTS))
    return HostColumns(**{name: table[:, i] for i, name in enumerate(HOST_CONSTANTS)})
