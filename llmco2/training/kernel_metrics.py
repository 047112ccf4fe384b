"""Errors of measured kernels over an epoch, as torchmetrics metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def kernel_loss(log_error: Tensor, beta: float) -> Tensor:
    """Return the mean smooth L1 loss of ``log(predicted / measured)``, ``(n_kernels,)``, as a scalar.

    Source: Girshick, "Fast R-CNN" (arXiv 1504.08083), equation 3, with the bend at ``beta``.
    """
    return smooth_l1_loss(log_error, torch.zeros_like(log_error), beta=beta)


class KernelErrors(Metric):
    """Loss and absolute percentage errors (APE) of the kernels seen since the last reset, over all processes.

    Args:
        beta: where the loss bends, in log units.
    """

    full_state_update = False
    log_error: list[Tensor]

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = beta
        self.add_state("log_error", default=[], dist_reduce_fx="cat")

    def update(self, log_error: Tensor) -> None:
        """Take ``log(predicted / measured)`` of some kernels, ``(n_kernels,)``."""
        self.log_error.append(log_error)

    def compute(self) -> dict[str, Tensor]:
        """Return ``loss`` and the ``median``, ``mean`` and ``p90`` of the APE in percent, scalars."""
        log_error = dim_zero_cat(self.log_error)
        ape = 100.0 * torch.expm1(log_error).abs()
        ordered = ape.sort().values
        return {
            "loss": kernel_loss(log_error, self.beta),
            "median_ape_percent": ordered[(len(ordered) - 1) // 2],
            "mean_ape_percent": ape.mean(),
            "p90_ape_percent": ordered[int(0.9 * (len(ordered) - 1))],
        }


class ErrorsByKind(nn.Module):
    """The errors of every kernel kind over an epoch.

    Args:
        kinds: kernel kinds.
        beta: where the loss bends, in log units.
    """

    def __init__(self, kinds: Sequence[str], beta: float) -> None:
        super().__init__()
        self.of_kind = nn.ModuleDict({kind: KernelErrors(beta) for kind in kinds})

    def update(self, log_errors: Mapping[str, Tensor]) -> None:
        """Take ``log(predicted / measured)`` of some kernels of some kinds, ``(n_kernels,)`` each."""
        for kind, log_error in log_errors.items():
            cast(KernelErrors, self.of_kind[kind]).update(log_error)

    def take(self) -> dict[str, Tensor]:
        """Return ``loss``, the mean over kinds, and ``KIND/median_ape_percent`` and so on; forget the epoch."""
        figures: dict[str, Tensor] = {}
        for kind, errors in self.of_kind.items():
            assert isinstance(errors, KernelErrors)
            if errors.update_called:
                figures |= {f"{kind}/{name}": value for name, value in errors.compute().items()}
                errors.reset()
        losses = [figures.pop(f"{kind}/loss") for kind in self.of_kind if f"{kind}/loss" in figures]
        return {"loss": torch.stack(losses).mean(), **figures} if losses else figures
