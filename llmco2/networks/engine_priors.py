"""What is known of an engine before a run of it is seen: the means its offsets are shrunk to.

Eager frameworks launch every operator from Python, write what a fused kernel would keep in registers, and append to
their key-value cache by copying it. Serving engines write their own kernels and begin where all engines do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import torch
from torch import Tensor

from llmco2.operators.names import PHASES
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, score_of
from llmco2.records.engines import ENGINES

# A slot stands for several operators, each some 10 microseconds of dispatch.
EAGER_LAUNCH_S: Final = 5e-5
# A norm, a rotation or a gate is several operators, each of which reads and writes its activations.
EAGER_ACTIVATION_PASSES: Final = 4.0
# A cache that grows by concatenation is read and written once more each step, by small copies under full bandwidth.
EAGER_KV_PASSES: Final = 6.0


def engine_phase_mean(engines: tuple[str, ...]) -> Tensor:
    """Return the mean scores of phase coefficients, ``(n_engines + 1, n_phases, n_phase)``; the first: no engine."""
    names = list(PHASE_COEFFICIENTS)
    launch = score_of(EAGER_LAUNCH_S, *PHASE_COEFFICIENTS["host_launch_s"])
    mean = torch.zeros(len(engines) + 1, len(PHASES), len(names))
    for place in _eager_places(engines):
        mean[place, :, names.index("host_launch_s")] = launch
    return mean


def engine_slot_mean(engines: tuple[str, ...]) -> Tensor:
    """Return the mean scores of slot coefficients, ``(n_engines + 1, n_slot)``; the first: no engine."""
    names = list(SLOT_COEFFICIENTS)
    mean = torch.zeros(len(engines) + 1, len(names))
    for place in _eager_places(engines):
        for name, passes in (("activation", EAGER_ACTIVATION_PASSES), ("kv", EAGER_KV_PASSES)):
            mean[place, names.index(name)] = score_of(passes, *SLOT_COEFFICIENTS[name])
    return mean


def _eager_places(engines: tuple[str, ...]) -> Iterator[int]:
    for place, name in enumerate(engines, start=1):
        if name in ENGINES and ENGINES[name].launches_from_python:
            yield place
