"""What decode waits for is the largest of its resources' seconds at the readout's initial constants."""

from __future__ import annotations

from dataclasses import fields

import torch

from benchmarks.accuracy.row_facts import decode_regimes
from llmco2.operators.names import N_SLOTS
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, PhaseBasis


def test_each_resource_can_be_the_largest() -> None:
    # One second of the resource named, a tenth of a second of every other.
    rows = {
        "weight_s": "memory",
        "kv_s": "memory",
        "compute_s": "compute",
        "network_s": "network",
        "steps": "host",
        "sequence_steps": "host",
    }
    host_s = {"steps": "host_step_s", "sequence_steps": "host_sequence_s"}
    columns = {f.name: torch.zeros(len(rows)) for f in fields(PhaseBasis)}
    for name in ("compute_s", "weight_s", "activation_s", "kv_s", "network_s", "launches"):
        columns[name] = torch.zeros(len(rows), N_SLOTS)
    for name in ("compute_s", "weight_s", "network_s"):
        columns[name][:, 0] = 0.1
    for place, name in enumerate(rows):
        if name in host_s:
            columns[name][place] = 1.0 / PHASE_COEFFICIENTS[host_s[name]][2]
        else:
            columns[name][place, 3] = 1.0
    assert decode_regimes(PhaseBasis(**columns)).tolist() == list(rows.values())


def test_constants_decide_between_equal_seconds() -> None:
    columns = {f.name: torch.zeros(1) for f in fields(PhaseBasis)}
    for name in ("compute_s", "weight_s", "activation_s", "kv_s", "network_s", "launches"):
        columns[name] = torch.zeros(1, N_SLOTS)
    columns["compute_s"][:, 0] = columns["network_s"][:, 1] = 1.0
    assert SLOT_COEFFICIENTS["network"][2] > SLOT_COEFFICIENTS["compute"][2]
    assert decode_regimes(PhaseBasis(**columns)).tolist() == ["network"]
