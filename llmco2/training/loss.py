"""What training minimises: robust errors of log predictions, and priors on the constants.

Invariant: a run contributes only the labels it knows; a source's own systematic offset is fitted beside the model
and left out of predictions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from llmco2.data.tensors import IS_ENERGY, LABELS, RunBatch
from llmco2.networks.coefficients import CoefficientNetwork, Coefficients
from llmco2.operators.names import KINDS
from llmco2.physics.readout import PHASE_COEFFICIENTS, SLOT_COEFFICIENTS, PhaseReadout, phase_readout

LABEL_WEIGHTS: Final = {
    "prefill_energy_j": 1.0,
    "decode_energy_j": 1.0,
    "energy_j": 1.0,
    "ttft_s": 0.3,
    "tpot_s": 0.3,
    "latency_s": 0.3,
}
_SMALLEST: Final = 1e-12
# Beyond this log error a row pulls no harder: engines have rare regimes that no request tells, and the middle of the
# others is the better answer.
HUBER_DELTA: Final = 0.07
_KV: Final = [i for i, name in enumerate(SLOT_COEFFICIENTS) if name == "kv"]
_HOST: Final = [i for i, name in enumerate(PHASE_COEFFICIENTS) if name.startswith("host_")]
_POWER: Final = [i for i, name in enumerate(PHASE_COEFFICIENTS) if name.endswith("_power")]
_OWN: Final = [
    i for i, kind in enumerate(KINDS) if kind in ("attention", "cache", "communication", "sampling")
]
_LIBRARY: Final = [i for i in range(len(KINDS)) if i not in _OWN]
_NOT_KV: Final = [i for i, name in enumerate(SLOT_COEFFICIENTS) if name != "kv"]


@dataclass(frozen=True, kw_only=True)  # no slots: the command line reads defaults through vars()
class Priors:
    """Standard deviations that scores are shrunk with: the smaller, the closer to what everything shares."""

    base: float = 1.0
    base_kv: float = (
        0.3  # attention kernels of serving engines read the cache about once; others have offsets
    )
    kind: float = 0.3
    engine: float = 0.5
    engine_kind: float = 0.2
    engine_own_kind: float = 0.6  # of the kinds that engines write themselves
    engine_host: float = 1.5
    engine_power: float = (
        0.7  # of what a board draws whatever runs, which is more the board's than the engine's
    )
    feature: float = 0.3
    engine_feature: float = 0.3
    engine_feature_host: float = 0.5
    engine_feature_power: float = 0.3
    precision: float = 0.4
    gpu: float = 0.15
    family: float = 0.10
    group: float = 0.15
    source: float = 0.01  # wider, it took a tenth of a source's energy for a quirk and left it out of answers
    noise: float = 0.15  # of a log label

    def penalty(self, network: CoefficientNetwork, source_level: Tensor) -> Tensor:
        """Return ``Σ score² / (2 σ²)``, the negative log prior."""
        pairs = (
            (network.base_slot[_NOT_KV], self.base),
            (network.base_slot[_KV], self.base_kv),
            (network.base_phase, self.base),
            (network.kind_slot, self.kind),
            (network.engine_slot - network.engine_slot_mean, self.engine),
            (network.engine_kind[:, _OWN], self.engine_own_kind),
            (network.engine_kind[:, _LIBRARY], self.engine_kind),
            ((network.engine_phase - network.engine_phase_mean)[..., _HOST], self.engine_host),
            ((network.engine_phase - network.engine_phase_mean)[..., _POWER], self.engine_power),
            (network.feature_slot, self.feature),
            (network.feature_phase, self.feature),
            (network.engine_feature_slot, self.engine_feature),
            (network.engine_feature_phase[..., _HOST], self.engine_feature_host),
            (network.engine_feature_phase[..., _POWER], self.engine_feature_power),
            (network.precision_slot, self.precision),
            (network.gpu_level, self.gpu),
            (network.family_level, self.family),
            (network.group_level, self.group),
            (source_level, self.source),
        )
        return sum((values.square().sum() / (2.0 * sigma**2) for values, sigma in pairs), torch.zeros(()))


class SourceLevels(nn.Module):
    """A fitted log offset of each source's energies and times, which predictions do without."""

    def __init__(self, n_sources: int) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(n_sources, 2))  # energy, time
        self.register_buffer(
            "column", torch.tensor([0 if energy else 1 for energy in IS_ENERGY]), persistent=False
        )

    def forward(self, source: Tensor) -> Tensor:
        """Return offsets ``(n_rows, N_LABELS)``."""
        return self.level[source][:, self.column]  # type: ignore[index]


def run_readout(coefficients: Coefficients, batch: RunBatch) -> tuple[PhaseReadout, PhaseReadout]:
    """Return the readouts of prefill and decode for the rows of a batch."""
    answers = []
    for p in range(2):
        slot = {
            name: values.index_select(0, batch.deployment) for name, values in coefficients.slot[p].items()
        }
        phase = {
            name: values.index_select(0, batch.deployment) for name, values in coefficients.phase[p].items()
        }
        answers.append(phase_readout(torch, batch.bases[p], slot, phase))
    return answers[0], answers[1]


def predicted_labels(coefficients: Coefficients, batch: RunBatch) -> Tensor:
    """Return predictions in the order of LABELS, ``(n_rows, N_LABELS)``."""
    prefill, decode = run_readout(coefficients, batch)
    steps = batch.bases[1].steps.clamp_min(_SMALLEST)
    columns = {
        "prefill_energy_j": prefill.energy_j,
        "decode_energy_j": decode.energy_j,
        "energy_j": prefill.energy_j + decode.energy_j,
        "ttft_s": prefill.time_s / batch.bases[0].steps,
        "tpot_s": decode.time_s / steps,
        "latency_s": prefill.time_s + decode.time_s,
    }
    return torch.stack([columns[name] for name in LABELS], dim=1)


def log_errors(predicted: Tensor, labels: Tensor) -> Tensor:
    """Return ``log(predicted / label)``, zero where a label is unknown; ``(n_rows, N_LABELS)``."""
    known = ~labels.isnan()
    safe = torch.where(known, labels, torch.ones_like(labels))
    ratio = predicted.clamp_min(_SMALLEST).log() - safe.log()
    return torch.where(known, ratio, torch.zeros_like(ratio))


def robust_loss(errors: Tensor, labels: Tensor, weight: Tensor, *, delta: float = HUBER_DELTA) -> Tensor:
    """Return the weighted Huber loss of log errors, summed over labels and averaged over rows."""
    label_weight = errors.new_tensor([LABEL_WEIGHTS[name] for name in LABELS])
    huber = nn.functional.huber_loss(errors, torch.zeros_like(errors), reduction="none", delta=delta)
    known = (~labels.isnan()).float() * label_weight
    # A row with many labels must not outweigh one with its total energy alone.
    share = known / known.sum(dim=1, keepdim=True).clamp_min(1.0)
    return (weight * (huber * share).sum(dim=1)).sum() / weight.sum()
