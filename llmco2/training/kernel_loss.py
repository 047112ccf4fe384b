"""What measured kernels teach: latency and watts of one launch, through the same readout as whole runs."""

from __future__ import annotations

from dataclasses import fields

import torch
from torch import Tensor, nn

from llmco2.data.kernel_tensors import KernelBatch
from llmco2.networks.coefficients import CoefficientNetwork
from llmco2.physics.readout import PhaseBasis, phase_readout

_SMALLEST = 1e-12


def predicted_kernels(network: CoefficientNetwork, batch: KernelBatch) -> tuple[Tensor, Tensor]:
    """Return latency (s) and mean power of one GPU (W) of every kernel, each ``(n_kernels,)``."""
    coefficients = network(batch.graphs)
    decode = batch.phase == 1
    slot = {name: torch.where(decode[:, None], coefficients.slot[1][name], values)
            for name, values in coefficients.slot[0].items()}  # fmt: skip
    phase = {name: torch.where(decode, coefficients.phase[1][name], values)
             for name, values in coefficients.phase[0].items()}  # fmt: skip
    basis = PhaseBasis(**{f.name: getattr(batch.basis, f.name) for f in fields(PhaseBasis)})
    answer = phase_readout(torch, basis, slot, phase)
    return answer.time_s, answer.energy_j / answer.time_s / basis.n_gpus


def kernel_loss(network: CoefficientNetwork, batch: KernelBatch, *, delta: float = 0.5) -> Tensor:
    """Return the mean Huber loss of log latencies plus that of log watts, where measured."""
    latency_s, power_w = predicted_kernels(network, batch)
    return _mean_huber(latency_s, batch.latency_s, delta) + _mean_huber(power_w, batch.power_w, delta)


def _mean_huber(predicted: Tensor, measured: Tensor, delta: float) -> Tensor:
    known = ~measured.isnan() & (measured > 0.0)
    ratio = (
        predicted.clamp_min(_SMALLEST).log() - torch.where(known, measured, torch.ones_like(measured)).log()
    )
    error = torch.where(known, ratio, torch.zeros_like(ratio))
    total = nn.functional.huber_loss(error, torch.zeros_like(error), reduction="sum", delta=delta)
    return total / known.sum().clamp_min(1)
